// Detects objects with an end-to-end graph of detr-onnx and onnxruntime-web; the same JSON as `detr-onnx detect`.

import * as ort from "./node_modules/onnxruntime-web/dist/ort.wasm.min.mjs";

// A session and its class names, from the URL of an .onnx file.
export async function open(address) {
  const bytes = new Uint8Array(await (await fetch(address)).arrayBuffer());
  return { session: await ort.InferenceSession.create(bytes), labels: JSON.parse(metadata(bytes, "detr_onnx.labels")) };
}

// [{score, label, box: {xmin, ymin, xmax, ymax}}, …], best first; boxes in whole pixels of the upright image.
export async function detect({ session, labels }, image, threshold = 0.5) {
  const { scores, labels: ids, boxes } = await session.run({
    image: await rgb(image),
    threshold: new ort.Tensor("float32", [threshold], [1]),
  });
  return Array.from(scores.data, (score, i) => {
    const [xmin, ymin, xmax, ymax] = boxes.data.subarray(4 * i, 4 * i + 4).map(Math.trunc);
    return { score, label: labels[Number(ids.data[i])], box: { xmin, ymin, xmax, ymax } };
  });
}

// A Blob with an image -> uint8 [height, width, 3].
async function rgb(blob) {
  const bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  const { width, height } = bitmap;
  const canvas = new OffscreenCanvas(width, height).getContext("2d");
  canvas.drawImage(bitmap, 0, 0);
  const rgba = canvas.getImageData(0, 0, width, height).data;
  const values = Uint8Array.from({ length: 3 * width * height }, (_, i) => rgba[i + Math.floor(i / 3)]); // no alpha
  return new ort.Tensor("uint8", values, [height, width, 3]);
}

// One entry of an ONNX file's metadata, which onnxruntime-web does not expose: in protobuf, key, tag 0x12, length, value.
function metadata(bytes, key) {
  let at = find(bytes, new TextEncoder().encode(key)) + key.length + 1;
  let length = 0;
  for (let shift = 0; ; shift += 7) {
    length |= (bytes[at] & 0x7f) << shift;
    if (bytes[at++] < 0x80) break;
  }
  return new TextDecoder().decode(bytes.subarray(at, at + length));
}

// The last position of a sequence of bytes; metadata is at the end of a file.
function find(bytes, sequence) {
  for (let at = bytes.length - sequence.length; at >= 0; at--) {
    if (sequence.every((byte, i) => bytes[at + i] === byte)) return at;
  }
  throw new Error("the file has no such metadata: was it written by detr-onnx export --end-to-end?");
}
