"""The entry point of `detr-onnx` and `python -m detr_onnx`; Ctrl-C ends it quietly from its first import on."""


def main() -> int:
    """Runs the command line and returns the exit status."""
    try:
        from detr_onnx.cli.interrupts import INTERRUPTED, exit_on_interrupt, raise_on_interrupt
    except KeyboardInterrupt:
        return 130
    try:
        exit_on_interrupt()
        from detr_onnx.cli.main import exit_at_once_if_stuck
        from detr_onnx.cli.main import main as run_command_line

        raise_on_interrupt()
        try:
            status = run_command_line()
        finally:
            exit_on_interrupt()
        exit_at_once_if_stuck(status)
        return status
    except KeyboardInterrupt:
        return INTERRUPTED


if __name__ == "__main__":
    import sys

    sys.exit(main())
