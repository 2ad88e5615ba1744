"""Videos: real files made at test time, a real RTSP server, and stubs for devices that are not there."""
