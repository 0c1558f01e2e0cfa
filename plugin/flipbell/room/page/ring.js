// The bell: a short sound made here, heard only once a person has turned it on.

export class Bell {
  #context = null;

  get isOn() {
    return this.#context !== null && this.#context.state === "running";
  }

  async turnOn() {
    this.#context ??= new AudioContext();
    await this.#context.resume();
  }

  async turnOff() {
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
