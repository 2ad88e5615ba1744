"""Frames of video files, streams and cameras, read by PyAV (extra `video`), and annotated videos.

    path, URL or camera ── open_video ──► VideoFile: every frame in order, or LiveVideo: always the newest frame
    Video ── detect_frames ──► VideoFrame: frame index, seconds, image, detections ── VideoWriter ──► annotated file

Times are those of the source, images are upright, and what is damaged is skipped and counted.
"""
