"""The sound of a file, copied into the annotated one."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from detr_onnx.errors import VideoError
from detr_onnx.text import printable, reason_of
from detr_onnx.video.frames import JUMP_BACK_S, Selection
from detr_onnx.video.pyav import import_av, open_input
from detr_onnx.video.sources import shown_name

if TYPE_CHECKING:
    import av
    from av.audio.stream import AudioStream
    from av.container import OutputContainer

MICROSECONDS = 1_000_000
OPUS_HZ = 48_000  # the only rate of its decoders

logger = logging.getLogger(__name__)


class AudioCopy:
    """Writes the sound of a file along with its frames, packet by packet and without a change.

    Sound that the format of the output cannot hold, such as AAC in WebM, is encoded anew; what no encoder takes is left
    out with a warning. Damaged packets are left out. Like the frames, sound goes on where joined files begin again.

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
        self._packets = self._timed_packets()
        self._next = next(self._packets, None)
        self._is_copied = _can_hold(output.format.name, self._input, self._next[1] if self._next else None)
        try:
            self._stream: Any = (
                output.add_stream_from_template(self._input) if self._is_copied else _encoder(output, self._input)
            )
        except (import_av().error.FFmpegError, ValueError) as error:
            logger.warning("%s is saved without its sound: %s", printable(shown_name(source)), reason_of(error))
            self._input = None
            self._container.close()

    def write_until(self, seconds: float) -> None:
        """Writes the sound up to a time of the output."""
        while self._input is not None and self._next is not None and self._next[0] <= seconds:
            packet = self._next[1]
            with contextlib.suppress(import_av().error.InvalidDataError):  # damage that only writing finds
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
        """The packets of the wanted part with their times in the output, which grow; reading stops at an error."""
        errors = import_av().error
        try:
            if self._selection.start_s > 0:
                self._container.seek(round(self._start_s * MICROSECONDS), backward=True)
            last_s, shift_s = float("-inf"), self._start_s
            for packet in self._container.demux(self._input):
                if packet.pts is None or packet.time_base is None or packet.is_corrupt:
                    continue
                seconds = float(packet.pts * packet.time_base)
                if seconds - shift_s < last_s - JUMP_BACK_S:  # the beginning of a joined file
                    shift_s = seconds - last_s - float((packet.duration or 0) * packet.time_base)
                packet.pts -= round(shift_s / packet.time_base)
                packet.dts = packet.pts
                seconds = float(packet.pts * packet.time_base)
                is_wanted = seconds >= 0 or self._selection.start_s == 0  # before 0 is what a decoder needs to begin
                if is_wanted and seconds > last_s:
                    last_s = seconds
                    yield seconds, packet
        except (errors.FFmpegError, VideoError):  # the frames tell what is wrong with the file
            return

    def _copied(self, packet: av.Packet) -> av.Packet:
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
            packets += self._stream.encode(frame)
        return packets


def _can_hold(format_name: str, audio: AudioStream, first: av.Packet | None) -> bool:
    """Whether a format takes this sound as it is. It may refuse the rate or the channels of a codec that it knows."""
    av = import_av()
    try:
        trial = av.open(io.BytesIO(), "w", format=format_name)
        stream = trial.add_stream_from_template(audio)
        if first is not None:
            packet = av.Packet(bytes(first))
            packet.pts, packet.dts, packet.time_base, packet.stream = 0, 0, first.time_base, stream
            trial.mux(packet)
        trial.close()
    except (av.error.FFmpegError, ValueError):
        return False
    return True


def _encoder(output: OutputContainer, audio: AudioStream) -> Any:
    """A stream of the format's usual codec, with the source's channels, and its rate or the nearest that the codec has.

    Opus and AC-3 take few layouts of more than two channels; these become stereo. So do channels without a layout.
    """
    codec, av = output.default_audio_codec, import_av()
    encoder = av.codec.Codec(codec, "w")
    rates = [OPUS_HZ] if "opus" in codec else encoder.audio_rates or [audio.rate]
    rate = min(rates, key=lambda rate: abs(rate - audio.rate))
    has_layout = codec == "aac" and not audio.layout.name.endswith(" channels")
    layout = "mono" if audio.channels == 1 else audio.layout.name if has_layout else "stereo"
    trial = av.CodecContext.create(encoder, "w")
    trial.rate, trial.layout, trial.format = rate, layout, encoder.audio_formats[0]
    trial.open()  # a stream cannot be taken out of the file again
    return output.add_stream(codec, rate=rate, layout=layout)
