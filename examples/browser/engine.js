// The page's side of the worker: one request at a time, answers as promises.

export class Engine {
  #worker = null;
  #requests = new Map();
  #opened = null;
  #count = 0;

  // Opens a model, or waits for it if that has begun; what `opened` of worker.js says.
  //   order: {site, model, engine, mayFallBack}; progress: called with the number of bytes so far
  open(order, progress) {
    this.#opened ??= this.#ask({ open: order }, progress);
    const opened = this.#opened;
    opened.catch(() => { if (this.#opened === opened) this.#opened = null; }); // the next one tries again
    return opened;
  }

  detect(blob, threshold) {
    return this.#ask({ detect: { blob, threshold } });
  }

  // Ends the worker; whoever waits for it gets an error, which is empty if nothing went wrong.
  close(reason = "") {
    this.#worker?.terminate();
    this.#worker = this.#opened = null;
    for (const { reject } of this.#requests.values()) reject(new Error(reason));
    this.#requests.clear();
  }

  #ask(message, progress) {
    this.#worker ??= this.#start();
    const id = ++this.#count;
    this.#worker.postMessage({ id, ...message });
    return new Promise((resolve, reject) => this.#requests.set(id, { resolve, reject, progress }));
  }

  #start() {
    const worker = new Worker("worker.js", { type: "module" });
    worker.addEventListener("message", ({ data }) => this.#answer(data));
    const missing = "The model cannot be run: this browser is too old, or a file of the page is missing. Reload the page.";
    worker.addEventListener("error", () => this.close(missing));
    return worker;
  }

  #answer({ id, progress, opened, detected, error, broken }) {
    const request = this.#requests.get(id);
    if (progress) return request?.progress?.(progress.bytes);
    this.#requests.delete(id);
    if (error) request?.reject(new Error(error));
    else request?.resolve(opened ?? detected);
    if (broken) this.close(error); // its memory may be full; the next request starts anew
    return undefined;
  }
}
