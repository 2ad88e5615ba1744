// Says in one sentence what is wrong with a file, before it is decoded.

const MAX_PIXELS = 100e6; // 400 MB decoded
const HEAD_BYTES = 1 << 16;
const KINDS = [
  [/^%PDF/, "a PDF document"],
  [/^PK\x03\x04/, "a ZIP archive"],
  [/^(II\*\0|MM\0\*)/, "a TIFF image"],
  [/^....ftyp.{0,60}avi[fs]/s, "an AVIF image"], // its major brand may be mif1
  [/^....ftyp(he[iv][cmsx]|mif[12]|msf1)/s, "a HEIC image"],
  [/^....ftyp/s, "a video"],
  [/^(\xff\x0a|\0\0\0\x0cJXL )/, "a JPEG XL image"],
  [/^\s*<(svg|\?xml)/i, "an SVG drawing"],
  [/^[\t\n\r\x20-\x7e]+$/, "text"],
];

// What to note about an image that can be read, sentences. Throws an Error with a sentence if it cannot.
export async function check(blob) {
  if (!blob.size) throw new Error("This file is empty.");
  const bytes = new Uint8Array(await blob.slice(0, HEAD_BYTES).arrayBuffer());
  const head = textOf(bytes);
  const { width, height } = await sizeOf(blob, head);
  if (width * height > MAX_PIXELS) {
    throw new Error(`This image has ${width} × ${height} pixels; at most ${MAX_PIXELS / 1e6} million can be read here. Scale it down first.`);
  }
  const notes = [];
  const isGif = head.startsWith("GIF8");
  if (isGif ? hasFrames(new Uint8Array(await blob.arrayBuffer())) : isAnimated(head)) notes.push("Only the first frame of the animation is read.");
  if (isCmyk(bytes)) notes.push("This JPEG is for print (CMYK); its colours are an approximation.");
  return notes;
}

// Width and height in pixels, from the header: browsers decode an image only when it is drawn.
async function sizeOf(blob, head) {
  const kind = KINDS.find(([pattern]) => pattern.test(head))?.[1];
  if (kind === "an SVG drawing") throw new Error(`This is ${kind}. Save it as PNG or JPEG first.`);
  const image = new Image();
  image.src = URL.createObjectURL(blob);
  try {
    await new Promise((resolve, reject) => Object.assign(image, { onload: resolve, onerror: reject }));
    return { width: image.naturalWidth, height: image.naturalHeight };
  } catch {
    const what = /image/.test(kind) ? `${kind}, which this browser cannot read` : (kind ? `${kind}, not an image` : "not an image, or it is damaged");
    throw new Error(`This file is ${what}. Use a JPEG, PNG or WebP.`);
  } finally {
    URL.revokeObjectURL(image.src);
  }
}

const textOf = (bytes) => new TextDecoder("latin1").decode(bytes); // a character a byte, and ASCII stays

// Whether a PNG or a WebP has the header of an animation.
function isAnimated(text) {
  const isPng = /^.PNG/s.test(text) && text.split("IDAT")[0].includes("acTL");
  return isPng || (/^RIFF....WEBP/s.test(text) && text.includes("ANIM"));
}

// Whether a GIF has a second image. [GIF89a, sections 18 to 26]
function hasFrames(bytes) {
  const table = (flags) => (flags & 0x80 ? 3 << ((flags & 7) + 1) : 0); // bytes of a colour table
  let images = 0;
  let at = 13 + table(bytes[10]);
  while (images < 2 && (bytes[at] === 0x21 || bytes[at] === 0x2c)) {
    const isImage = bytes[at] === 0x2c;
    images += isImage;
    at += isImage ? 11 + table(bytes[at + 9]) : 2;
    while (bytes[at]) at += bytes[at] + 1; // blocks of data, the last of which is empty
    at += 1;
  }
  return images > 1;
}

// Whether a JPEG has four components: the byte after the size in its start-of-frame segment. [ITU-T T.81, B.2.2]
function isCmyk(bytes) {
  let at = 2;
  while (bytes[0] === 0xff && bytes[1] === 0xd8 && bytes[at] === 0xff && at + 9 < bytes.length) {
    const isFrame = bytes[at + 1] >= 0xc0 && bytes[at + 1] <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(bytes[at + 1]);
    if (isFrame) return bytes[at + 9] === 4;
    at += 2 + bytes[at + 2] * 256 + bytes[at + 3];
  }
  return false;
}
