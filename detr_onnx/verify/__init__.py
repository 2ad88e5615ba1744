"""`detr-onnx verify`: is this model what it should be, and does every engine here compute the same?

files.py      the bytes: pinned or named digests
golden.py     the outputs that are published for a model (`published.py`)
engines.py    every engine and precision against a reference, on generated images (`images.py`), by `bars.py`
coco.py       COCO's twelve figures beside the published ones
checks.py     what each of them returns; `report.py` makes it a table or JSON
"""
