// The bell: a short sound made here, if a person has turned it on. The choice is remembered.

const NAME = "flipbell-room-sound";

export class Bell {
  #context = null;
  #isWanted = false;
  #changed;

  // *changed* is called when `isWanted` or `isOn` is different from before.
  constructor(changed) {
    this.#changed = changed;
  }

  get isWanted() {
    return this.#isWanted;
  }

  get isOn() {
    return this.#isWanted && this.#context?.state === "running";
  }

  // Turns the sound on if it was on when the page was left. The browser may wait for a gesture.
  restore() {
    this.#isWanted = remembered();
    this.#changed();
    this.wake();
  }

  // Starts the sound that is wanted, if the browser lets it start now.
  async wake() {
    if (!this.#isWanted || this.isOn) return;
    if (!this.#context) {
      this.#context = new AudioContext();
      this.#context.addEventListener("statechange", () => this.#changed());
    }
    await this.#context.resume();
    this.#changed();
  }

  async turnOn() {
    this.#isWanted = true;
    remember(true);
    await this.wake();
  }

  async turnOff() {
    this.#isWanted = false;
    remember(false);
    this.#changed();
    await this.#context?.suspend();
  }

  ring() {
    if (!this.isOn) return;
    const start = this.#context.currentTime;
    for (const [delay, pitch] of [[0, 880], [0.16, 1318.5], [0.32, 1046.5]]) {
      this.#tone(start + delay, pitch);
    }
  }

  #tone(start, pitch) {
    const tone = this.#context.createOscillator();
    const loudness = this.#context.createGain();
    tone.type = "triangle";
    tone.frequency.value = pitch;
    loudness.gain.setValueAtTime(0.0001, start);
    loudness.gain.exponentialRampToValueAtTime(0.22, start + 0.015);
    loudness.gain.exponentialRampToValueAtTime(0.0001, start + 0.5);
    tone.connect(loudness).connect(this.#context.destination);
    tone.start(start);
    tone.stop(start + 0.55);
  }
}

function remembered() {
  try {
    return localStorage.getItem(NAME) === "on";
  } catch {
    return false; // a browser that keeps nothing
  }
}

function remember(isOn) {
  try {
    localStorage.setItem(NAME, isOn ? "on" : "off");
  } catch {
    // a browser that keeps nothing: the choice holds until the page is left
  }
}
