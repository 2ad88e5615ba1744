// An `AI` binding that asks a detr-onnx server, in the form in which the binding of Workers asks the hosted API.
import { WorkerEntrypoint } from "cloudflare:workers";

export default class AI extends WorkerEntrypoint {
  async run(model, inputs, options = {}) {
    const headers = { "Content-Type": "application/json", "cf-consn-model-id": model };
    if (this.env.TOKEN) headers.Authorization = `Bearer ${this.env.TOKEN}`;
    const body = JSON.stringify({ inputs, options });
    const response = await fetch(`${this.env.SERVER}/run?version=3`, { method: "POST", headers, body });
    const answer = await response.json();
    if (response.ok) return answer;
    const error = new Error(answer.internalCode ? `${answer.internalCode}: ${answer.message}` : JSON.stringify(answer));
    error.name = answer.name ?? "InferenceUpstreamError";
    throw error;
  }

  fetch() {
    return new Response("this is a binding: call env.AI.run", { status: 404 });
  }
}
