// The worker: loads a model and detects, so that the page stays responsive. Messages, with the number of their request:
//   {id, open: {site, model, engine, mayFallBack}}
//                                      -> {id, progress: {bytes}} …, {id, opened: {engine, threads, refused, note}}
//   {id, detect: {blob, threshold}}    -> {id, detected: {found, ms}}
//   either                             -> {id, error: a sentence, broken: whether the worker cannot go on}

import { detect, open } from "./detect.js";
import { load } from "./files.js";
import { decode } from "./pixels.js";

const MOST_THREADS = 8;
let network = null;

self.addEventListener("message", async ({ data: { id, ...request } }) => {
  const reply = (message) => self.postMessage({ id, ...message });
  try {
    if (request.open) reply({ opened: await opened(request.open, (bytes) => reply({ progress: { bytes } })) });
    else reply({ detected: await detected(request.detect) });
  } catch (error) {
    reply({ error: error.message, broken: Boolean(error.broken) });
  }
});

async function opened({ site, model, engine, mayFallBack }, progress) {
  const file = await load(model, progress);
  try {
    return await openedWith(engine, site, model, file, progress);
  } catch (error) {
    if (engine !== "webgpu" || !mayFallBack || !error.broken) throw error;
    const answer = await openedWith("wasm", site, model, file, progress);
    return { ...answer, note: `WebGPU cannot be used (${error.message}).` };
  }
}

async function openedWith(engine, site, model, file, progress) {
  const runtime = site.runtimes[engine];
  const binary = await load(runtime, (bytes) => progress(model.bytes + bytes));
  const threads = self.crossOriginIsolated ? threadsOf(navigator.hardwareConcurrency) : 1; // threads need shared memory
  try {
    const ort = await import(new URL(runtime.module, import.meta.url).href);
    ort.env.wasm.wasmBinary = binary.bytes;
    ort.env.wasm.numThreads = threads;
    ort.env.logLevel = "error";
    network = await open(ort, file.bytes, model, engine);
  } catch (error) {
    throw failure(`The model “${model.name}” cannot be opened`, error);
  }
  return { engine, threads, refused: file.refused || binary.refused, note: "" };
}

function threadsOf(cores) {
  return cores <= 4 ? cores : Math.min(MOST_THREADS, Math.ceil(cores / 2)); // of many, half are a core's second thread
}

async function detected({ blob, threshold }) {
  const image = await decode(blob).catch(() => {
    throw new Error("This image is damaged, or too large for this browser.");
  });
  const started = performance.now();
  try {
    return { found: await detect(network, image, threshold), ms: Math.round(performance.now() - started) };
  } catch (error) {
    throw failure("The model failed on this image", error);
  }
}

// An error whose sentence says what failed and why. Afterwards onnxruntime-web may be unusable, and its memory stays full.
function failure(what, error) {
  const reason = String(error?.message ?? error).replace(/^.*ERROR_MESSAGE: /s, "").split("\n")[0].slice(0, 200);
  const isMemory = /bad_alloc|out of memory|memory access|allocat/i.test(reason) || error instanceof RangeError;
  const sentence = isMemory ? `${what}: there is not enough memory. Close other tabs, or use a smaller model.` : `${what}: ${reason}`;
  return Object.assign(new Error(sentence), { broken: true });
}
