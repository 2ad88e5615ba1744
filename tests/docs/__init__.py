"""Every code block of the documentation is run, in the order of its page.

A comment before a block says what a test cannot do with it:

    <!-- test: parse-only, needs a GPU -->                       the block is parsed: options, syntax
    <!-- test: `detr-onnx verify` parse-only, needs … -->        only the commands that begin so
    <!-- test: needs av -->                                      a package; without it, parsed and reported as skipped
    <!-- test: `detr-onnx serve` needs starlette -->             the same of some commands
    <!-- test: with `EPOCHS = 6` for `EPOCHS = 30` -->          Python: something quicker is run
    <!-- test: shape of `detr-onnx detect street.jpg` -->        JSON: has the keys and types that this command prints

Files and directories that a page names exist in the directory in which it runs (`stage.FILES`), and the official
models are replaced by the demo models. A page is reported as skipped if some of its blocks need a package that is not
installed.
"""
