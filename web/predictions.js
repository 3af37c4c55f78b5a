// A node's predictions, which the server computes: the newest one that has arrived. No DOM in here.

const ADDRESS = "/aether_hero/predict"; // see nodes/bridge/prediction_route.py
const PAUSE_MS = 50; // between two questions, as a slider may move with every frame
const PATIENCE_MS = 30000; // the first look into a model's file may take a while on a slow disk
const RETRY_MS = 5000; // after a question that got no answer

const wait = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

/**
 * Ask the server.
 * @param {object} api ComfyUI's @param {object} request see `answer` in nodes/prediction.py
 * @returns {Promise<object>} what `answer` gives, or {failed: true}
 */
export async function askServer(api, request) {
  try {
    const answer = await api.fetchApi(ADDRESS, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(request),
      signal: AbortSignal.timeout(PATIENCE_MS),
    });
    return answer.ok ? await answer.json() : { failed: true };
  } catch {
    return { failed: true };
  }
}

/** One question at a time, the newest next; what was asked in between is dropped, so no answer overtakes another. */
export class Predictor {
  #wanted = null;
  #shown = null;
  #busy = false;

  /**
   * @param {function} fetchAnswer gives an answer to a request, as `askServer` does
   * @param {function} arrived is called when `newest` would give something new
   */
  constructor(fetchAnswer, arrived) {
    this.fetchAnswer = fetchAnswer;
    this.arrived = arrived;
  }

  /**
   * The newest answer: {asked, answer}, null before the first one. It stays until the next arrives.
   * @param {object} asked {request, ...}: what is to be predicted, and whatever its words need to know
   */
  newest(asked) {
    this.#wanted = { asked, key: JSON.stringify(asked.request) };
    if (this.#isAnswered()) this.#shown.asked = asked;
    else this.#work();
    return this.#shown;
  }

  /** Ask once more what is asked now: the server may know more. */
  forget() {
    if (this.#shown) this.#shown.until = 0;
  }

  #isAnswered() {
    return this.#shown?.key === this.#wanted.key && !(this.#shown.until < Date.now());
  }

  async #work() {
    if (this.#busy) return;
    this.#busy = true;
    try {
      while (!this.#isAnswered()) {
        const { asked, key } = this.#wanted;
        const answer = await this.fetchAnswer(asked.request);
        this.#shown = { asked, key, answer, until: answer.failed ? Date.now() + RETRY_MS : Infinity };
        this.arrived();
        await wait(PAUSE_MS);
      }
    } finally {
      this.#busy = false;
    }
  }
}
