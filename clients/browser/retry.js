// Trying again, ever less often.

const FIRST_DELAY_MS = 500;
const LONGEST_DELAY_MS = 8000;

/** Milliseconds to wait before try number `attempt` (1, 2, ...): doubling, with a quarter of chance. */
export function backoffMs(attempt, random = Math.random) {
  const delay = Math.min(LONGEST_DELAY_MS, FIRST_DELAY_MS * 2 ** (attempt - 1));
  return delay * (0.875 + 0.25 * random());
}

/** Runs something again after a while; at once where the network has just come back. */
export class Retry {
  #run;
  #attempt = 0;
  #timer = 0;

  constructor(run) {
    this.#run = run;
    addEventListener("online", () => this.#timer && this.#now());
  }

  get hasTried() {
    return this.#attempt > 0;
  }

  later() {
    this.cancel();
    this.#attempt += 1;
    this.#timer = setTimeout(() => this.#now(), backoffMs(this.#attempt));
  }

  /** It worked: the next failure is a first one again. */
  reset() {
    this.cancel();
    this.#attempt = 0;
  }

  cancel() {
    clearTimeout(this.#timer);
    this.#timer = 0;
  }

  #now() {
    this.cancel();
    this.#run();
  }
}
