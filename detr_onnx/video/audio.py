"""The sound of a file, copied into the annotated one."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from detr_onnx.errors import VideoError
from detr_onnx.video.frames import Selection
from detr_onnx.video.pyav import import_av, open_input

if TYPE_CHECKING:
    import av
    from av.audio.stream import AudioStream
    from av.container import OutputContainer

MICROSECONDS = 1_000_000


class AudioCopy:
    """Writes the sound of a file along with its frames, packet by packet and without a change.

    Sound that the format of the output cannot hold, such as AAC in WebM, is encoded anew. Damaged packets are left out.

    Args:
        source: the file.
        output: where the sound goes; the stream is added now, before the header is written.
        selection: the part of the file that is wanted, which begins at 0 in the output.
        timeout_s: how long a server may be silent.
    """

    def __init__(self, source: str, output: OutputContainer, selection: Selection, timeout_s: float) -> None:
        self._output, self._selection = output, selection
        self._container = open_input(source, timeout_s)
        streams = self._container.streams.audio
        self._input: AudioStream | None = streams[0] if streams and streams[0].codec_context is not None else None
        if self._input is None:
            self._container.close()
            return
        self._start_s = selection.start_s + (self._container.start_time or 0) / MICROSECONDS
        self._is_copied = self._input.codec_context.name in output.supported_codecs
        self._stream: Any = (
            output.add_stream_from_template(self._input) if self._is_copied else _encoder(output, self._input)
        )
        self._packets = self._timed_packets()
        self._next = next(self._packets, None)

    def write_until(self, seconds: float) -> None:
        """Writes the sound up to a time of the output."""
        while self._input is not None and self._next is not None and self._next[0] <= seconds:
            packet = self._next[1]
            self._output.mux(self._copied(packet) if self._is_copied else self._encoded(packet))
            self._next = next(self._packets, None)

    def finish(self, seconds: float) -> None:
        """Writes the rest up to a time of the output, and closes the source."""
        if self._input is not None:
            self.write_until(seconds)
            if not self._is_copied:
                self._output.mux(self._stream.encode(None))
            self.close()

    def close(self) -> None:
        """Closes the source."""
        self._container.close()

    def _timed_packets(self) -> Iterator[tuple[float, av.Packet]]:
        """The packets of the wanted part with their times in the output; reading stops at an error."""
        errors = import_av().error
        try:
            if self._selection.start_s > 0:
                self._container.seek(round(self._start_s * MICROSECONDS), backward=True)
            for packet in self._container.demux(self._input):
                if packet.pts is not None and packet.time_base is not None and not packet.is_corrupt:
                    seconds = float(packet.pts * packet.time_base) - self._start_s
                    if seconds >= 0 or self._selection.start_s == 0:  # before 0 is what a decoder needs to begin
                        yield seconds, packet
        except (errors.FFmpegError, VideoError):  # the frames tell what is wrong with the file
            return

    def _copied(self, packet: av.Packet) -> av.Packet:
        shift = round(self._start_s / (packet.time_base or Fraction(1)))
        packet.pts = None if packet.pts is None else packet.pts - shift
        packet.dts = None if packet.dts is None else packet.dts - shift
        packet.stream = self._stream
        return packet

    def _encoded(self, packet: av.Packet) -> list[av.Packet]:
        errors = import_av().error
        try:
            frames: list[Any] = packet.decode()
        except errors.FFmpegError:
            return []
        packets = []
        for frame in frames:
            if frame.pts is not None:
                frame.pts -= round(self._start_s / frame.time_base)
            packets += self._stream.encode(frame)
        return packets


def _encoder(output: OutputContainer, audio: AudioStream) -> Any:
    """A stream of the format's usual codec, with the source's rate and channels.

    Opus takes 48 kHz only, and few layouts of more than two channels; these become stereo.
    """
    codec, rate, layout = output.default_audio_codec, audio.rate, audio.layout.name
    if "opus" in codec:
        rate, layout = 48000, layout if audio.channels <= 2 else "stereo"
    return output.add_stream(codec, rate=rate, layout=layout)
