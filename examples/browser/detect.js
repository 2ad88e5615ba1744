// A network in onnxruntime-web: its session, and detections in the form of `detr-onnx detect`.

import { preprocess } from "./pixels.js";

// {ort, session, model}: a network ready to run.
//   bytes of the .onnx file; model: its entry in site.json; engine: "webgpu" or "wasm"
export async function open(ort, bytes, model, engine) {
  const session = await ort.InferenceSession.create(bytes, { executionProviders: engine === "webgpu" ? ["webgpu", "wasm"] : ["wasm"] });
  return { ort, session, model };
}

// [{score, label, box: {xmin, ymin, xmax, ymax}}, …], best first; boxes in whole pixels of the upright image.
//   image: {rgba, width, height}, as `decode` of pixels.js returns it
export async function detect({ ort, session, model }, image, threshold) {
  const { pixels, width, height } = preprocess(image, model.preprocessing);
  const inputs = { pixel_values: new ort.Tensor("float32", pixels, [1, 3, height, width]) };
  if (session.inputNames.includes("pixel_mask")) inputs.pixel_mask = fullMask(ort, height, width);
  const { logits, pred_boxes } = await session.run(inputs);
  return detections(logits, pred_boxes, image, model.labels, threshold);
}

function fullMask(ort, height, width) {
  return new ort.Tensor("int64", new BigInt64Array(height * width).fill(1n), [1, height, width]);
}

// As `detections_of` in detr_onnx/detections.py, in float32: the best class of each query, if its score exceeds the threshold.
function detections({ data: logits, dims }, { data: boxes }, { width, height }, labels, threshold) {
  const [, queries, classes] = dims; // the last class is "no object"
  const found = [];
  for (let query = 0; query < queries; query++) {
    const { score, best } = bestClass(logits.subarray(query * classes, (query + 1) * classes));
    if (score > threshold) found.push({ score, label: labels[best], box: corners(boxes.subarray(4 * query, 4 * query + 4), width, height) });
  }
  return found.sort((a, b) => b.score - a.score);
}

function bestClass(logits) {
  const largest = logits.reduce((a, b) => Math.max(a, b));
  const powers = logits.map((logit) => Math.exp(logit - largest));
  const sum = powers.reduce((a, b) => a + b);
  let best = 0;
  for (let i = 1; i < powers.length - 1; i++) if (powers[i] > powers[best]) best = i;
  return { score: Math.fround(powers[best] / sum), best };
}

// Centre, width and height in 0..1 -> corners in pixels, truncated as in the hosted API.
function corners([x, y, w, h], width, height) {
  const px = (centre, half, side) => Math.trunc(Math.fround(Math.fround(centre + half) * side));
  return { xmin: px(x, -w / 2, width), ymin: px(y, -h / 2, height), xmax: px(x, w / 2, width), ymax: px(y, h / 2, height) };
}
