// An `AI` binding for a detr-onnx server. It sends the requests that the binding of Workers sends to the hosted API.
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
    return new Response("This is a binding; call env.AI.run.", { status: 404 });
  }
}
