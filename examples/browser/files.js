// Files of the site that are downloaded once: the models and onnxruntime-web's WebAssembly. Their names contain their
// digest or version, so a file that is in the browser's cache is never out of date.

const SCOPE = new URL("./", import.meta.url);
const CACHE = `detr-onnx files ${SCOPE.pathname}`; // sites of one host share their caches' names

async function cache() {
  return caches.open(CACHE); // throws where the browser has no storage: no https, private windows, blocked cookies
}

// Whether all of the files are in the cache.
export async function areStored(files) {
  try {
    const stored = await cache();
    return (await Promise.all(files.map(({ file }) => stored.match(new URL(file, SCOPE))))).every(Boolean);
  } catch {
    return false;
  }
}

// Removes from the cache what the site no longer has.
export async function removeOthers(files) {
  const kept = new Set(files.map(({ file }) => new URL(file, SCOPE).href));
  try {
    const stored = await cache();
    const others = (await stored.keys()).filter(({ url }) => !kept.has(url));
    await Promise.all(others.map((request) => stored.delete(request)));
  } catch {
    // no storage, so nothing to remove
  }
}

// {bytes, refused}: a file's content, from the cache or the network, and why the browser did not keep it, or "".
//   file: {file, bytes, sha256} of site.json; progress: called with the number of bytes so far
export async function load(file, progress) {
  const url = new URL(file.file, SCOPE);
  const stored = await cache().then((it) => it.match(url)).catch(() => null);
  if (stored) {
    progress(file.bytes);
    return { bytes: new Uint8Array(await stored.arrayBuffer()), refused: "" };
  }
  const bytes = await download(url, file, progress);
  return { bytes, refused: await store(url, bytes) };
}

async function download(url, { file, bytes: size, sha256 }, progress) {
  const response = await fetch(url, { cache: "no-store" }).catch(() => null); // the cache above is enough
  if (!response) throw new Error(`${file} cannot be downloaded: there is no connection. Try again when there is one.`);
  if (!response.ok) throw new Error(`${file} cannot be downloaded: the server answered with status ${response.status}. Reload the page.`);
  const bytes = await read(response.body, size, progress);
  if (bytes === null || ((await digest(bytes)) ?? sha256) !== sha256) throw new Error(`${file} arrived damaged or cut short. Try again.`);
  return bytes;
}

// The content of a stream of a known size; null if it has another one.
async function read(body, size, progress) {
  const bytes = new Uint8Array(size);
  const reader = body.getReader();
  let length = 0;
  try {
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      if (length + part.value.length > size) return null;
      bytes.set(part.value, length);
      progress((length += part.value.length));
    }
  } catch {
    return null; // the connection was lost
  }
  return length === size ? bytes : null;
}

async function digest(bytes) {
  if (!crypto.subtle) return null; // on plain http
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return Array.from(hash, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function store(url, bytes) {
  try {
    await (await cache()).put(url, new Response(bytes, { headers: { "Content-Length": bytes.length } }));
    return "";
  } catch (error) {
    return error.name === "QuotaExceededError" ? "its storage is full" : "it has no storage for this page";
  }
}
