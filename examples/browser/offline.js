// Registers the service worker, which keeps the page and isolates it.

const RELOADED = "detr-onnx reloaded";

// Calls `renewed` when a new version of the page is stored. Reloads the page once, on the first visit, if that isolates it
// and `mayReload` says that nothing would be lost.
export async function stayOffline(renewed, mayReload) {
  if (!navigator.serviceWorker) return; // not on plain http, nor in some private windows
  const isFirst = !navigator.serviceWorker.controller;
  navigator.serviceWorker.addEventListener("controllerchange", () => {
    if (!isFirst) renewed();
    else if (!self.crossOriginIsolated && mayReload() && isOnlyReload()) location.reload();
  });
  await navigator.serviceWorker.register("service-worker.js", { updateViaCache: "none" });
}

// Once a window: where isolation fails, reloading again would not help.
function isOnlyReload() {
  try {
    const isFirst = !sessionStorage.getItem(RELOADED);
    sessionStorage.setItem(RELOADED, "yes");
    return isFirst;
  } catch {
    return false;
  }
}
