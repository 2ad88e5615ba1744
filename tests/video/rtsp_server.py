"""An RTSP server for tests and benchmarks: GStreamer's, run by the system's Python, which has its bindings.

    python3 rtsp_server.py PORT [WIDTH HEIGHT FPS]      prints "ready" when it listens

    rtsp://127.0.0.1:PORT/live      endless
    rtsp://127.0.0.1:PORT/short     ends after 40 frames
    rtsp://127.0.0.1:PORT/silent    stops after 40 frames without a word, as a camera that hangs

The frames are H.264 without latency of the encoder. Each shows when it was made, as 48 black and white fields: the
system's monotonic clock in microseconds, which is the same in all processes.

GStreamer does not always answer a client that comes at the moment when another one leaves, so whoever looks at one
stream after another starts a server for each.
"""

from __future__ import annotations

import sys
import threading
import time

COLUMNS, ROWS = 8, 6  # of fields
LIMITS = {"live": None, "short": 40, "silent": 40}  # frames


def frame_of(microseconds: int, width: int, height: int) -> bytes:
    """A grey image of this size that shows the number, its highest bit at the top left."""
    column, row = width // COLUMNS, height // ROWS
    rows = []
    for y in range(ROWS):
        bits = [microseconds >> (COLUMNS * ROWS - 1 - y * COLUMNS - x) & 1 for x in range(COLUMNS)]
        line = b"".join((b"\xeb" if bit else b"\x10") * column for bit in bits).ljust(width, b"\x10")
        rows.append(line * row)
    return b"".join(rows).ljust(width * height, b"\x10")


def number_in(pixels: list[list[int]]) -> int:
    """The number that an image shows, given as rows of grey values."""
    height, width = len(pixels), len(pixels[0])
    column, row = width // COLUMNS, height // ROWS
    number = 0
    for y in range(ROWS):
        for x in range(COLUMNS):
            number = number << 1 | (pixels[y * row + row // 2][x * column + column // 2] > 128)
    return number


def serve(port: int, width: int, height: int, fps: int) -> None:
    """Serves until the process is ended."""
    import gi

    gi.require_version("Gst", "1.0")
    gi.require_version("GstRtspServer", "1.0")
    from gi.repository import GLib, Gst, GstRtspServer

    Gst.init(None)

    def feed(
        source: Gst.Element, asked: threading.Event, plays: threading.Event, limit: int | None, ends: bool
    ) -> None:
        asked.wait()  # a frame from before the pipeline has its base time is shown hours later
        start, count, played = time.monotonic(), 0, 0
        while limit is None or played < limit:  # without frames before it plays, the stream would not be described
            time.sleep(max(0.0, start + count / fps - time.monotonic()))
            content = frame_of(time.monotonic_ns() // 1000, width, height)
            if source.emit("push-buffer", Gst.Buffer.new_wrapped(content)) != Gst.FlowReturn.OK:
                return
            count += 1
            played += plays.is_set()
        if ends:
            source.emit("end-of-stream")

    server = GstRtspServer.RTSPServer.new()
    server.set_address("127.0.0.1")
    server.set_service(str(port))
    caps = f"video/x-raw,format=GRAY8,width={width},height={height},framerate={fps}/1"
    for name, limit in LIMITS.items():
        factory = GstRtspServer.RTSPMediaFactory.new()
        factory.set_launch(
            f"( appsrc name=source is-live=true do-timestamp=true format=time caps={caps} ! videoconvert "
            "! video/x-raw,format=I420 ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=25 "
            "! rtph264pay name=pay0 pt=96 config-interval=1 )"
        )

        def configure(factory: object, media: object, limit: int | None = limit, ends: bool = name == "short") -> None:
            source = media.get_element().get_by_name_recurse_up("source")
            asked, plays = threading.Event(), threading.Event()
            source.connect("need-data", lambda source, length: asked.set())
            media.connect("new-state", lambda media, state: state == Gst.State.PLAYING and plays.set())
            threading.Thread(target=feed, args=(source, asked, plays, limit, ends), daemon=True).start()

        factory.connect("media-configure", configure)
        server.get_mount_points().add_factory(f"/{name}", factory)
    if not server.attach(None):
        sys.exit(f"cannot listen on port {port}")
    print("ready", flush=True)
    GLib.MainLoop().run()


if __name__ == "__main__":
    serve(*map(int, [*sys.argv[1:], *["640", "480", "25"][len(sys.argv) - 2 :]][:4]))
