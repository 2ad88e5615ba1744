"""The demo model: scenes of pictograms with COCO's category ids, and a small DETR trained on them. Not packaged."""
