// Makes the page work offline, and isolates it (threads of WebAssembly need that) where the host sends no such headers.
// publish.py sets the version; a new one replaces all files of the page at once. files.js keeps the large files.

const VERSION = "unpublished";
const PREFIX = `detr-onnx page ${new URL(self.registration.scope).pathname} `; // sites of one host share their caches' names
const CACHE = PREFIX + VERSION;
const HEADERS = {
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
  "Cross-Origin-Resource-Policy": "same-origin",
};

self.addEventListener("install", (event) => {
  self.skipWaiting();
  event.waitUntil(storePage().catch(withoutStorage));
});

// Refused storage is no reason not to isolate the page; a lost connection keeps the version before.
function withoutStorage(error) {
  if (!(error instanceof DOMException)) throw error;
}

self.addEventListener("activate", (event) => {
  event.waitUntil(removeOldPages().catch(() => {}).then(() => self.clients.claim()));
});

self.addEventListener("fetch", (event) => {
  const { method, url } = event.request;
  const isOurs = method === "GET" && url.startsWith(self.registration.scope) && !/\.(onnx|wasm)$/.test(new URL(url).pathname);
  if (isOurs) event.respondWith(respond(event.request));
});

async function storePage() {
  const site = await (await fetch("site.json", { cache: "reload" })).json();
  if (site.version !== VERSION) throw new Error("the site changes while it is being stored");
  const cache = await caches.open(CACHE);
  await cache.addAll(["./", ...site.files].map((file) => new Request(file, { cache: "reload" })));
}

async function removeOldPages() {
  const old = (await caches.keys()).filter((name) => name.startsWith(PREFIX) && name !== CACHE);
  await Promise.all(old.map((name) => caches.delete(name)));
}

async function respond(request) {
  const stored = await caches.open(CACHE).then((cache) => cache.match(request, { ignoreSearch: true })).catch(() => null);
  const response = stored ?? (await fetch(request));
  if (response.status === 0) return response; // a redirect, which the browser follows itself
  const headers = new Headers(response.headers);
  for (const [name, value] of Object.entries(HEADERS)) headers.set(name, value);
  return new Response(response.body, { status: response.status, statusText: response.statusText, headers });
}
