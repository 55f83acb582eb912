// The sound of the browser as the board hears it: mono, 16 kHz, 16 bits, 40 ms at a time.
const RATE = 16000, CHUNK = 640, TAPS = 24; // TAPS: zero crossings of the low-pass on either side

class Pcm extends AudioWorkletProcessor {
  constructor() {
    super();
    this.chunk = new Int16Array(CHUNK);
    this.used = 0;
    this.ratio = sampleRate / RATE; // 1 where the browser gives 16 kHz itself
    this.half = Math.ceil(TAPS * this.ratio);
    this.past = new Float32Array(2 * this.half);
    this.next = this.half; // of the next output, in samples of `past` and what follows
  }

  put(value) {
    this.chunk[this.used++] = Math.max(-32768, Math.min(32767, Math.round(value * 32768)));
    if (this.used < CHUNK) return;
    this.port.postMessage(this.chunk.buffer, [this.chunk.buffer]);
    this.chunk = new Int16Array(CHUNK);
    this.used = 0;
  }

  // A windowed sinc below 0.46 of the new rate, at the times of the new samples.
  resample(input) {
    const all = new Float32Array(this.past.length + input.length), cut = 0.92 / this.ratio;
    all.set(this.past);
    all.set(input, this.past.length);
    for (; this.next + this.half < all.length; this.next += this.ratio) {
      const middle = Math.floor(this.next);
      let sum = 0;
      for (let at = middle - this.half + 1; at <= middle + this.half; at++) {
        const x = at - this.next, turns = Math.PI * x * cut;
        const window = 0.5 + 0.5 * Math.cos(Math.PI * x / this.half);
        sum += all[at] * window * cut * (turns ? Math.sin(turns) / turns : 1);
      }
      this.put(sum);
    }
    this.past = all.slice(all.length - 2 * this.half);
    this.next -= all.length - 2 * this.half;
  }

  process([[input]]) {
    if (input) {
      if (this.ratio === 1) input.forEach((value) => this.put(value));
      else this.resample(input);
    }
    return true;
  }
}

registerProcessor("pcm", Pcm);
