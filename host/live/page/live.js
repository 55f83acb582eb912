// Draws what the board says about the sound this page sends it; decides nothing.
"use strict";
const RATE = 16000, SHOWN_S = 8, LED_S = 1; // LED_S: how long the firmware shows a word
const LED = ["#22e04a", "#ff3b30", "#2f7bff", "#ffd60a", "#32d7e6", "#e05ce0"]; // the firmware's, word by word
const VIRIDIS = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]];
const STAGES = ["pre", "inference", "post"];
const token = new URLSearchParams(location.search).get("token");
const $ = (id) => document.getElementById(id);
const colour = (word) => LED[(word - 2) % LED.length];
const socket = new WebSocket(`ws://${location.host}/board?token=${token}`);
let me = null, steps = [], stages = [], source = null, context = null, running = false, dirty = false, ledUntil = 0, count = 0;

const send = (message) => socket.readyState === 1 && socket.send(JSON.stringify(message));

function element(tag, text, style) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  Object.assign(made.style, style || {});
  return made;
}

function trouble(text) {
  $("trouble").textContent = text || "";
  $("trouble").hidden = !text;
}

function hello(message) {
  me = message;
  $("who").textContent = `${me.model} on ${me.board}`;
  $("modelled").textContent = me.board.includes("modelled") ? "(modelled)" : "";
  $("hop").textContent = `of ${me.hop_ms} ms a hop; interrupts and serial line apart`;
  $("axis").textContent = `${me.channels} channels, low at the bottom; one column per ${me.step_ms} ms`;
  me.labels.forEach((label, index) => {
    if (index < 2) return;
    const row = element("div"), bar = element("div"), key = element("i", "", { background: colour(index) });
    row.className = "word";
    bar.className = "bar";
    bar.append(element("i", "", { background: colour(index) }), element("b"));
    row.append(element("span", label), bar, element("span", "-"));
    $("words").append(row);
    $("legend").append(key, label);
  });
  for (const name of STAGES) {
    const row = $("stages").insertRow();
    for (const text of [name, "-", "-", "-", "us"]) row.insertCell().textContent = text;
  }
  for (const label of [...me.labels.slice(2), "negatives"]) {
    const button = element("button", label === "negatives" ? "hard negative" : `take of ${label}`);
    button.onclick = () => send({ do: "save", label, seconds: Number($("seconds").value) || 4 });
    $("labels").append(button);
  }
  $("rate").max = me.rows.length - 1;
  $("rate").disabled = false;
  detector(me, true);
  $("start").disabled = $("file").disabled = me.own_microphone;
  $("start").hidden = $("pick").hidden = $("keep").hidden = $("loud").hidden = me.own_microphone;
  $("now").textContent = "Ready";
  if (me.own_microphone) {
    $("input").textContent = "The board hears by its own microphone: the host sees its scores, not its sound.";
    $("features").hidden = $("features").previousElementSibling.hidden = true;
    begin();
  }
}

// The thresholds in force; the slider follows them only when nobody moves it.
function detector(found, move) {
  const nearest = me.rows.findIndex((row) => row.thresholds.every((least, word) => least <= found.thresholds[word]));
  if (move) $("rate").value = nearest < 0 ? me.rows.length - 1 : nearest;
  $("accepts").textContent = me.rows[0].rate === null ? "not measured (no table in the model)" : found.rate;
  const words = me.labels.slice(2).map((label, index) => `${label} ${found.thresholds[index]}`);
  $("thresholds").textContent = `at ${words.join(", ")}`;
}

function step(found) {
  steps.push(found);
  if (steps.length > SHOWN_S * 1000 / me.hop_ms) steps.shift();
  // the first inference computes the whole window, the others what a hop changes
  if (found.step) found.us.forEach((us, index) => {
    const stage = stages[index] = stages[index] || { sum: 0, most: 0 };
    stage.sum += us;
    stage.most = Math.max(stage.most, us);
  });
  if (found.step) count++;
  if (found.word !== null) {
    const item = element("li", `${found.seconds.toFixed(2)} s  ${me.labels[found.word]}`);
    item.append(element("small", `  evidence ${found.sums[found.word - 2]} of ${found.thresholds[found.word - 2]}`));
    $("heard").prepend(item);
    while ($("heard").children.length > 200) $("heard").lastChild.remove();
    ledUntil = found.seconds + LED_S;
    $("led").style.setProperty("--colour", colour(found.word));
    $("led").setAttribute("aria-label", `LED on: ${me.labels[found.word]}`);
    $("now").textContent = me.labels[found.word];
  }
  const lit = found.seconds < ledUntil;
  $("led").classList.toggle("lit", lit);
  if (!lit) {
    const settling = found.seconds < me.settle_s;
    $("now").textContent = settling ? `Settling ${(me.settle_s - found.seconds).toFixed(1)} s` : "Listening";
    $("led").setAttribute("aria-label", "LED off");
  }
  dirty = true;
}

// Text and bars of the newest step, once per frame drawn.
function numbers(last) {
  [...$("words").children].forEach((row, index) => {
    const sum = last.sums[index], least = last.thresholds[index], [, bar, text] = row.children;
    const full = 2 * Math.max(...me.rows[0].thresholds, ...last.thresholds, 1);
    bar.children[0].style.width = `${100 * Math.max(0, Math.min(1, sum / full))}%`;
    bar.children[1].style.left = `${100 * Math.max(0, least / full)}%`;
    text.textContent = `${sum} of ${least}`;
    text.style.fontWeight = sum >= least ? 700 : 400;
  });
  $("scores").textContent = `outputs, int8: ${me.outputs.map((label, index) => `${label} ${last.scores[index]}`).join(", ")}`;
  if (count) last.us.forEach((us, index) => {
    const cells = $("stages").rows[index].cells;
    [us, stages[index].sum / count, stages[index].most].forEach((value, at) => { cells[at + 1].textContent = value.toFixed(value < 100 ? 1 : 0); });
  });
  $("load").textContent = `${(100 * last.load).toFixed(1)} %`;
  detector(last, false);
  const what = me.own_microphone ? "decisions differ from the host's on the board's scores" : "differ from the host's on the same sound";
  $("equal").textContent = `${last.count} inferences, ${last.different} ${what}` +
    (last.lost ? `; ${last.lost} samples lost` : "") + (last.behind > 0.5 ? `; the board is ${last.behind.toFixed(1)} s behind` : "");
  $("equal").classList.toggle("bad", last.different > 0 || last.lost > 0);
}

function shade(value) { // int8 -> colour
  const at = (value + 128) / 255 * (VIRIDIS.length - 1), low = Math.min(VIRIDIS.length - 2, Math.floor(at));
  return VIRIDIS[low].map((part, index) => part + (at - low) * (VIRIDIS[low + 1][index] - part));
}

function surface(canvas) {
  const scale = devicePixelRatio || 1, pen = canvas.getContext("2d");
  canvas.width = canvas.clientWidth * scale;
  canvas.height = canvas.clientHeight * scale;
  pen.scale(scale, scale);
  pen.font = "11px system-ui, sans-serif";
  return [pen, canvas.clientWidth, canvas.clientHeight];
}

function draw() {
  requestAnimationFrame(draw);
  if (!dirty || !steps.length) return;
  dirty = false;
  const last = steps[steps.length - 1];
  numbers(last);
  const [pen, , height] = surface($("features")), [line, width, tall] = surface($("sums"));
  const ink = getComputedStyle(document.body).color, x = (seconds) => width * (1 - (last.seconds - seconds) / SHOWN_S);
  const columns = steps.flatMap((one) => one.features || []);
  if (columns.length) {
    const picture = new ImageData(columns.length, me.channels);
    columns.forEach((column, at) => column.forEach((value, channel) => {
      picture.data.set([...shade(value), 255], 4 * ((me.channels - 1 - channel) * columns.length + at));
    }));
    const small = new OffscreenCanvas(columns.length, me.channels);
    small.getContext("2d").putImageData(picture, 0, 0);
    pen.imageSmoothingEnabled = false;
    const left = x(steps[0].seconds - me.hop_ms / 1000);
    pen.drawImage(small, left, 0, width - left, height);
  }
  const all = steps.flatMap((one) => [...one.sums, ...one.thresholds]);
  const top = Math.max(...all) * 1.1 + 1, bottom = Math.min(...all, 0), y = (sum) => tall - 16 - (tall - 22) * (sum - bottom) / (top - bottom);
  line.fillStyle = line.strokeStyle = ink;
  for (let second = Math.ceil(steps[0].seconds); second <= last.seconds; second++) {
    line.globalAlpha = 0.12;
    line.fillRect(x(second), 0, 1, tall - 14);
    line.globalAlpha = 0.7;
    line.fillText(`${second} s`, x(second) - 8, tall - 3);
  }
  line.globalAlpha = 0.3;
  line.fillRect(0, y(0), width, 1);
  line.globalAlpha = 1;
  const path = (word, value, dash) => {
    line.strokeStyle = colour(word + 2);
    line.setLineDash(dash);
    line.lineWidth = dash.length ? 1 : 2;
    line.beginPath();
    steps.forEach((one) => line.lineTo(x(one.seconds), y(value(one)[word])));
    line.stroke();
  };
  last.sums.forEach((_, word) => {
    path(word, (one) => one.thresholds, [5, 4]);
    path(word, (one) => one.sums, []);
  });
  for (const one of steps.filter((step) => step.word !== null)) {
    for (const to of [pen, line]) {
      to.fillStyle = colour(one.word);
      to.fillRect(x(one.seconds), 0, 2, to === pen ? height : tall - 14);
      if (to === pen) to.fillText(me.labels[one.word], x(one.seconds) + 5, 12);
    }
  }
}

function begin() {
  running = true;
  steps = [];
  stages = [];
  count = ledUntil = 0;
  $("heard").replaceChildren(); // times count anew
  $("start").textContent = "Stop";
  $("now").textContent = "Starting";
  trouble();
}

async function listen(file) {
  $("start").disabled = true;
  try {
    let track = null;
    try { // the browser's own resampling where it has one, else mic.js's
      context = new AudioContext({ sampleRate: RATE });
      source = await (file ? recording(file) : microphone());
    } catch (error) {
      if (error.name !== "NotSupportedError") throw error;
      context = new AudioContext();
      source = await (file ? recording(file) : microphone());
    }
    await context.audioWorklet.addModule(`mic.js?token=${token}`);
    const tap = new AudioWorkletNode(context, "pcm", { numberOfOutputs: 0, channelCount: 1, channelCountMode: "explicit" });
    tap.port.onmessage = ({ data }) => {
      if (!running) return;
      if (socket.readyState === 1) socket.send(data);
      const peak = new Int16Array(data).reduce((most, value) => Math.max(most, Math.abs(value)), 1);
      const decibels = 20 * Math.log10(peak / 32768);
      $("level").value = decibels;
      $("peak").textContent = peak > 32766 ? "clips" : `${decibels.toFixed(0)} dBFS`;
      $("peak").classList.toggle("bad", peak > 32766);
    };
    send({ do: "start" });
    begin();
    source.connect(tap);
    await context.resume();
    if (file) {
      source.onended = () => setTimeout(stop, 200);
      source.start();
      $("input").textContent = `Playing ${file.name}; it begins at ${me.settle_s.toFixed(1)} s, when the detector has settled.`;
    } else {
      track = source.mediaStream.getAudioTracks()[0];
      const set = track.getSettings();
      const on = ["echoCancellation", "noiseSuppression", "autoGainControl"].filter((name) => set[name]);
      $("input").textContent = `${track.label}, ${set.sampleRate || "?"} Hz to ${RATE}; ` +
        (on.length ? `the browser keeps ${on.join(", ")} on` : "echo cancellation, noise suppression and gain control are off");
      track.onended = () => stop("the microphone is gone");
    }
  } catch (error) {
    release();
    const known = { NotAllowedError: "the browser may not use the microphone; allow it in the address bar, then press Listen",
      NotFoundError: "this computer has no microphone; plug one in or play a recording",
      EncodingError: "this file holds no sound that the browser can read" };
    trouble(known[error.name] || `the sound cannot be opened (${error.name}: ${error.message})`);
  }
  $("start").disabled = false;
}

async function microphone() {
  const plain = { echoCancellation: false, noiseSuppression: false, autoGainControl: false, channelCount: 1 };
  const stream = await navigator.mediaDevices.getUserMedia({ audio: plain });
  try {
    return context.createMediaStreamSource(stream);
  } catch (error) {
    stream.getTracks().forEach((track) => track.stop());
    throw error;
  }
}

// Between silences: a take is shorter than the detector settles, and its word has to pass through the whole window.
async function recording(file) {
  const sound = await context.decodeAudioData(await file.arrayBuffer()), rate = sound.sampleRate;
  const first = Math.ceil(me.settle_s * rate);
  const buffer = context.createBuffer(sound.numberOfChannels, first + sound.length + rate, rate);
  for (let at = 0; at < sound.numberOfChannels; at++) buffer.copyToChannel(sound.getChannelData(at), at, first);
  return new AudioBufferSourceNode(context, { buffer });
}

function release() {
  running = false;
  if (source && source.mediaStream) source.mediaStream.getTracks().forEach((track) => track.stop());
  if (context) context.close();
  source = context = null;
  $("level").value = -60;
  $("peak").textContent = "";
  $("start").textContent = "Listen";
  $("input").textContent = "The microphone is off.";
}

function stop(why) {
  if (!running) return;
  release();
  send({ do: "stop" });
  if (typeof why === "string") trouble(why);
}

socket.onmessage = ({ data }) => {
  const message = JSON.parse(data);
  if ("labels" in message) hello(message);
  else if ("step" in message) step(message);
  else if ("error" in message) {
    trouble(message.error);
    if (message.ended) release();
  } else if ("saved" in message) $("saved").textContent = `saved ${message.saved}`;
  else if ("stopped" in message) {
    if (running) release();
    if (message.stopped) trouble(message.stopped);
    $("now").textContent = "Stopped";
    $("led").classList.remove("lit");
  } else if ("thresholds" in message) detector(message, false);
};
socket.onclose = () => {
  if (running) release();
  $("start").disabled = $("file").disabled = $("rate").disabled = true;
  for (const button of $("labels").children) button.disabled = true;
  $("now").textContent = "Ended";
  $("led").classList.remove("lit");
  if ($("trouble").hidden) trouble("the command has ended; start it again and open its new address");
};
$("start").onclick = () => (running ? stop() : listen(null));
$("file").onchange = ({ target }) => {
  if (running) stop();
  if (target.files.length) listen(target.files[0]);
  target.value = "";
};
addEventListener("resize", () => { dirty = true; });
$("rate").oninput = ({ target }) => send({ do: "thresholds", row: Number(target.value) });
draw();
