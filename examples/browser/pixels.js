// An image to the network's input, as detr-onnx's own preprocessing does it: the size rule of `detr_onnx/image/sizes.py`,
// Pillow's antialiased bilinear in its own integers, and the normalisation in float32.

const FRACTION_BITS = 22; // of Pillow's weights: sums of 8-bit values times weights fit in 32 bits

// A Blob -> {rgba, width, height}: 8-bit pixels of the upright image.
export async function decode(blob) {
  const bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  const { width, height } = bitmap;
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  const rgba = context.getImageData(0, 0, width, height).data;
  if (!hasPixels(rgba)) throw new Error("the canvas is empty"); // as where it is larger than the browser allows
  return { rgba, width, height };
}

function hasPixels(rgba) {
  for (let i = 3; i < rgba.length; i += 4) if (rgba[i]) return true;
  return false;
}

// {rgba, width, height} -> {pixels, width, height}: float32 [3, height, width], resized and normalised.
export function preprocess(image, { shortest_edge, longest_edge, rescale_factor, mean, std }) {
  const [height, width] = resizedSize(image.height, image.width, shortest_edge, longest_edge);
  const rgba = resize(image, width, height);
  const area = width * height;
  const pixels = new Float32Array(3 * area);
  for (let channel = 0; channel < 3; channel++) {
    const values = normalized(rescale_factor, mean[channel], std[channel]);
    for (let i = 0; i < area; i++) pixels[channel * area + i] = values[rgba[4 * i + channel]];
  }
  return { pixels, width, height };
}

// [height, width] of the resized image; see `resized_hw`.
export function resizedSize(height, width, shortest, longest) {
  const [short, long] = [Math.min(height, width), Math.max(height, width)];
  const exact = (long / short) * shortest > longest ? (longest * short) / long : shortest;
  const shortSide = roundHalfToEven(exact);
  if (short === shortSide) return [height, width];
  const longSide = Math.max(1, Math.trunc((exact * long) / short));
  const sides = [Math.max(1, shortSide), longSide];
  return height <= width ? sides : sides.reverse();
}

function roundHalfToEven(x) {
  const floor = Math.floor(x);
  return x - floor === 0.5 ? floor + (floor % 2) : Math.round(x);
}

// RGBA bytes of the resized image; alpha is not computed. The order of the axes is Pillow's.
export function resize({ rgba, width, height }, toWidth, toHeight) {
  const across = (image) => resizeAcross(image, toWidth);
  const down = (image) => resizeDown(image, toHeight);
  const image = { rgba, width, height };
  return (height > 2 * width && toHeight < height ? across(down(image)) : down(across(image))).rgba;
}

function resizeAcross({ rgba, width, height }, toWidth) {
  if (toWidth === width) return { rgba, width, height };
  const { first, count, weights, taps } = windows(width, toWidth);
  const result = new Uint8ClampedArray(4 * toWidth * height);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < toWidth; x++) {
      const sums = [HALF, HALF, HALF];
      for (let k = 0, at = 4 * (y * width + first[x]); k < count[x]; k++, at += 4) {
        const weight = weights[x * taps + k];
        for (let c = 0; c < 3; c++) sums[c] += rgba[at + c] * weight;
      }
      for (let c = 0; c < 3; c++) result[4 * (y * toWidth + x) + c] = sums[c] >> FRACTION_BITS;
    }
  }
  return { rgba: result, width: toWidth, height };
}

function resizeDown({ rgba, width, height }, toHeight) {
  if (toHeight === height) return { rgba, width, height };
  const { first, count, weights, taps } = windows(height, toHeight);
  const result = new Uint8ClampedArray(4 * width * toHeight);
  const sums = new Int32Array(4 * width); // a row at a time, as it lies in memory
  for (let y = 0; y < toHeight; y++) {
    sums.fill(HALF);
    for (let k = 0; k < count[y]; k++) {
      const weight = weights[y * taps + k];
      const from = 4 * width * (first[y] + k);
      for (let i = 0; i < sums.length; i++) sums[i] += rgba[from + i] * weight;
    }
    for (let i = 0, to = y * sums.length; i < sums.length; i++) result[to + i] = sums[i] >> FRACTION_BITS;
  }
  return { rgba: result, width, height: toHeight };
}

const HALF = 1 << (FRACTION_BITS - 1);

// Of each of `to` lines: which of `from` lines it is a mean of, and their weights in 2^-22.
// Source: `precompute_coeffs` and `normalize_coeffs_8bpc` of Pillow's libImaging/Resample.c.
function windows(from, to) {
  const scale = from / to;
  const support = Math.max(scale, 1); // half the width of the triangle
  const taps = 2 * Math.ceil(support) + 1;
  const [first, count, weights] = [new Int32Array(to), new Int32Array(to), new Int32Array(to * taps)];
  for (let line = 0; line < to; line++) {
    const centre = (line + 0.5) * scale;
    first[line] = Math.max(0, Math.trunc(centre - support + 0.5));
    count[line] = Math.min(from, Math.trunc(centre + support + 0.5)) - first[line];
    const triangle = Array.from({ length: count[line] }, (_, k) => Math.max(0, 1 - Math.abs((k + first[line] - centre + 0.5) * (1 / support))));
    const sum = triangle.reduce((total, weight) => total + weight, 0);
    triangle.forEach((weight, k) => { weights[line * taps + k] = Math.trunc(0.5 + (weight / sum) * (1 << FRACTION_BITS)); });
  }
  return { first, count, weights, taps };
}

// The 256 values of a channel: (byte · factor - mean) / std, each step in float32.
function normalized(factor, mean, std) {
  const [divisor, mean32, std32] = [1 / factor, mean, std].map(Math.fround);
  return Float32Array.from({ length: 256 }, (_, byte) => Math.fround(Math.fround(byte / divisor) - mean32) / std32);
}
