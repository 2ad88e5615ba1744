"""Writes annotated videos: frames at the times of their source, with its sound."""

from __future__ import annotations

import contextlib
import os
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from detr_onnx.atomic import atomic_file
from detr_onnx.errors import OutputError, UsageError, VideoError
from detr_onnx.text import reason_of
from detr_onnx.video.audio import AudioCopy
from detr_onnx.video.file import VideoFile
from detr_onnx.video.open import Video
from detr_onnx.video.pyav import import_av

if TYPE_CHECKING:
    from av.container import OutputContainer

FORMATS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
Encoders = tuple[tuple[str, dict[str, str]], ...]

H264: Encoders = (("libx264", {"preset": "veryfast", "crf": "23"}), ("libopenh264", {}))
VP9: Encoders = (("libvpx-vp9", {"deadline": "realtime", "cpu-used": "6", "crf": "32", "b": "0"}),)
"""Encoders with their options, best first: PyAV's own wheels have the first of each."""

TICK = Fraction(1, 90_000)  # of a second; the clock of MPEG, in which the usual frame rates are whole numbers
AUDIO_TIMEOUT_S = 10.0
BT709, LIMITED_RANGE = 1, 1  # ITU-T H.273, tables 2 to 4


class VideoWriter:
    """An annotated video. A context manager, which moves the file into place when the block ends.

    If an error or Ctrl-C ends the block early, the file has every frame that was written until then. If no frame was
    written, the path stays as it was.

    Args:
        path: .mp4, .m4v, .mov, .mkv (H.264) or .webm (VP9).
        video: where the frames come from; the sound of a file is copied.

    Raises:
        UsageError: the suffix is another one.
        OutputError: the directory is missing, or the path is the source itself.
    """

    def __init__(self, path: str | os.PathLike[str], video: Video) -> None:
        self._path, self._video = Path(path), video
        check_video_path(self._path)
        with contextlib.suppress(OSError):
            if self._path.samefile(video.source):
                raise OutputError(f"{path} is the video itself", remedy="choose another path")
        self._files = contextlib.ExitStack()
        self._output: OutputContainer | None = None
        self._stream: Any = None
        self._audio: AudioCopy | None = None
        self._size = 0, 0
        self._last_tick = -1

    def write(self, seconds: float, image: Image.Image) -> None:
        """Adds a frame.

        Args:
            seconds: its time in the source.
            image: of the size of the first one; another size is scaled to it.

        Raises:
            OutputError: the file cannot be written; it is removed.
        """
        with self._errors():
            output = self._begin(image) if self._output is None else self._output
            tick = round((seconds - self._video.selection.start_s) / TICK)
            self._last_tick = max(tick, self._last_tick + 1)
            output.mux(self._stream.encode(self._frame(image)))
            if self._audio is not None:
                self._audio.write_until(float(self._last_tick * TICK))

    def close(self) -> None:
        """Completes the file and moves it into place.

        Raises:
            OutputError: the file cannot be written; it is removed.
        """
        if self._output is None or self._last_tick < 0:  # nothing was written, or an interrupt came too early
            self._discard(InterruptedError())
            return
        with self._errors():
            output, self._output = self._output, None
            output.mux(self._stream.encode(None))
            if self._audio is not None:
                self._audio.finish(float(self._last_tick * TICK) + self._video.frame_s)
            output.close()
            self._files.close()

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _begin(self, image: Image.Image) -> OutputContainer:
        """The opened file, with its streams for frames of this size."""
        av = import_av()
        self._size = image.width - image.width % 2 or 2, image.height - image.height % 2 or 2
        file = self._files.enter_context(atomic_file(self._path))
        suffix = self._path.suffix.lower()
        # Written by libav and not through the file object: Ctrl-C cannot come between the parts of a packet.
        output: OutputContainer = av.open(file.name, "w", format=FORMATS[suffix])
        self._output = output  # from here on an error closes it
        self._stream = self._video_stream(output, VP9 if suffix == ".webm" else H264)
        if isinstance(self._video, VideoFile):
            self._audio = AudioCopy(self._video.source, output, self._video.selection, AUDIO_TIMEOUT_S)
        return output

    def _video_stream(self, output: OutputContainer, encoders: Encoders) -> Any:
        av = import_av()
        rate = Fraction(1 / self._video.frame_s).limit_denominator(1001)
        for name, options in encoders:
            try:
                stream: Any = output.add_stream(name, rate=rate, options=dict(options))
            except av.codec.codec.UnknownCodecError:
                continue
            stream.width, stream.height = self._size
            stream.pix_fmt = "yuv420p"
            stream.time_base = stream.codec_context.time_base = TICK
            context = stream.codec_context
            context.colorspace = context.color_primaries = context.color_trc = BT709
            context.color_range = LIMITED_RANGE
            context.sample_aspect_ratio = self._video.pixel_aspect
            return stream
        found = f"a PyAV without {' and '.join(name for name, _ in encoders)}"
        raise OutputError(f"cannot write {self._path}", found=found, remedy="run pip install av, which has encoders")

    def _frame(self, image: Image.Image) -> Any:
        av = import_av()
        frame = av.VideoFrame.from_image(self._fitted(image))
        frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
        frame.pts, frame.time_base = self._last_tick, TICK
        return frame

    def _fitted(self, image: Image.Image) -> Image.Image:
        """The image in the video's size, which is even: of an odd one, the last line is left out."""
        if image.size == self._size:
            return image
        near = all(0 <= side - fixed <= 1 for side, fixed in zip(image.size, self._size, strict=True))
        return image.crop((0, 0, *self._size)) if near else image.resize(self._size)

    @contextlib.contextmanager
    def _errors(self) -> Any:
        """Removes the file at an error. Errors of writing, and of opening the sound, become an OutputError."""
        av = import_av()
        try:
            yield
        except (OSError, av.error.FFmpegError) as error:
            self._discard(error)
            found = reason_of(error)
            raise OutputError(f"cannot write {self._path}", found=found, remedy="choose another path") from error
        except VideoError as error:
            self._discard(error)
            what = f"cannot write {self._path} with the sound of the video"
            raise OutputError(what, found=str(error), remedy="check that the video can still be read") from error
        except OutputError as error:
            self._discard(error)
            raise

    def _discard(self, error: Exception) -> None:
        output, self._output = self._output, None
        with contextlib.suppress(Exception):
            if output is not None:
                output.close()
        if self._audio is not None:
            self._audio.close()
        with contextlib.suppress(type(error)):
            self._files.__exit__(type(error), error, error.__traceback__)


def check_video_path(path: Path) -> None:
    """Raises the errors of an output path that can be known before there is a frame.

    Raises:
        UsageError: no video format has its suffix.
        OutputError: it is a directory, or its directory is missing.
    """
    if path.suffix.lower() not in FORMATS:
        found = f"the suffix {path.suffix!r}" if path.suffix else "no suffix"
        raise UsageError(f"cannot save a video as {path}", found=found, expected=", ".join(FORMATS))
    if path.is_dir() or not path.absolute().parent.is_dir():
        found = "a directory" if path.is_dir() else f"no directory {path.parent}"
        raise OutputError(f"cannot write {path}", found=found, remedy="create it first, or choose another path")
