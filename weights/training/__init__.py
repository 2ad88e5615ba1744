"""Training of the demo model: scenes of pictograms with COCO's category ids, and a small DETR. Not packaged."""
