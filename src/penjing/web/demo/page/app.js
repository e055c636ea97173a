// Runs a dense and a sparse file of one network in turns, on one picture.
import { loadAndCompile, loadLiteRt, Tensor } from "@litertjs/core";

import { enlarged, pictureFrom, softmax } from "./pictures.js";

const NAMES = ["dense", "sparse"];
const ROUNDS = 80; // of one measurement
const WARM_UP = 12; // rounds in which the browser compiles its fast code
const BLOCK_MILLISECONDS = 6;

const at = (id) => document.getElementById(id);
const state = { files: {}, demo: null, input: null, measurement: 0 };

start().catch(fail);

async function start() {
  const threads = offerThreads();
  state.demo = await fetched("models/demo.json", "json");
  const pixels = new Uint8Array(await fetched("models/pictures.bin", "arrayBuffer"));
  describe(state.demo);
  globalThis.Module = { printErr: log };
  await loadLiteRt("packages/@litertjs/core/wasm/", { threads: threads > 1 });
  say("Loading the two files…");
  for (const name of NAMES) {
    const bytes = new Uint8Array(await fetched(`models/${name}.tflite`, "arrayBuffer"));
    state.files[name] = await loadAndCompile(bytes, {
      accelerator: "wasm",
      cpuOptions: { numThreads: threads },
    });
  }
  offerPictures(pixels);
  acceptOwnPictures();
  at("measure").addEventListener("click", () => measure().catch(fail));
  at("measure").disabled = false;
  at("gallery").firstElementChild.click();
}

async function fetched(url, kind) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url} is missing (status ${response.status}).`);
  return response[kind]();
}

/** The runtime logs everything as an error; most of it is none. */
function log(line) {
  console[/^(INFO|WARNING|VERBOSE)/.test(line) ? "debug" : "error"](line);
}

function say(text) {
  at("status").textContent = text;
  at("status").classList.remove("failed");
}

function fail(error) {
  say(`It does not run: ${error.message ?? error}`);
  at("status").classList.add("failed");
  console.error(error);
}

/** Threads need an isolated page; a change of their number loads it anew. */
function offerThreads() {
  const most = globalThis.crossOriginIsolated ? (navigator.hardwareConcurrency ?? 1) : 1;
  const counts = [1, 2, 4, 8].filter((number) => number <= most);
  const asked = Number(new URLSearchParams(location.search).get("threads"));
  const chosen = counts.findLast((count) => count <= asked) ?? 1;
  for (const count of counts) {
    const option = new Option(String(count), String(count), false, count === chosen);
    at("threads").add(option);
  }
  at("threads").addEventListener("change", (event) => {
    location.search = `?threads=${event.target.value}`;
  });
  return chosen;
}

function describe({ files, sparsity, accuracy, test_pictures: tested }) {
  const percent = (value, digits = 0) => `${(100 * value).toFixed(digits)} %`;
  const size = (bytes) => `${(bytes / 1024).toFixed(0)} KiB`;
  for (const name of NAMES) {
    at(name).querySelector(".size").textContent = size(files[name]);
    const rows = state.demo.classes.map((label) => {
      const row = document.createElement("li");
      row.innerHTML =
        '<span class="label"></span><span class="track"><span class="fill"></span></span>' +
        '<span class="share"></span>';
      row.querySelector(".label").textContent = label;
      return row;
    });
    at(name).querySelector(".bars").replaceChildren(...rows);
  }
  at("about").textContent =
    `${percent(sparsity)} of the weights of its 1x1 convolutions are zero. On ` +
    `${tested.toLocaleString("en")} test pictures it is right in ` +
    `${percent(accuracy.sparse, 1)}; before it was pruned, in ` +
    `${percent(accuracy.baseline, 1)}.`;
}

function offerPictures(pixels) {
  const { side, labels } = state.demo.pictures;
  const buttons = labels.map((label, number) => {
    const picture = pixels.subarray(number * side * side, (number + 1) * side * side);
    const name = state.demo.classes[label];
    const button = document.createElement("button");
    button.type = "button";
    button.setAttribute("role", "radio");
    button.setAttribute("aria-label", `${name}, picture ${number + 1}`);
    const canvas = document.createElement("canvas");
    draw(canvas, Float32Array.from(picture, (value) => value / 255), side);
    button.append(canvas);
    button.addEventListener("click", () => {
      choose(button, Float32Array.from(picture, (value) => value / 255), `Label: ${name}`);
    });
    return button;
  });
  at("gallery").replaceChildren(...buttons);
  at("gallery").addEventListener("keydown", moveAmong);
}

/** Arrow keys move among the pictures, as among radio buttons. */
function moveAmong(event) {
  const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };
  if (!(event.key in steps)) return;
  event.preventDefault();
  const buttons = [...at("gallery").children];
  const place = buttons.indexOf(document.activeElement) + steps[event.key];
  const next = buttons[(place + buttons.length) % buttons.length];
  next.focus();
  next.click();
}

function acceptOwnPictures() {
  const use = async (file) => {
    if (!file) return;
    try {
      const side = state.demo.pictures.side;
      choose(null, await pictureFrom(file, side), `Your picture: ${file.name}`);
    } catch {
      state.measurement++; // ends one that runs, which would say something else
      say(`${file.name} is no picture that this browser can read.`);
    }
  };
  at("file").addEventListener("change", (event) => use(event.target.files[0]));
  const dropping = (on) => document.body.classList.toggle("dropping", on);
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    dropping(true);
  });
  document.addEventListener("dragleave", () => dropping(false));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    dropping(false);
    use(event.dataTransfer.files[0]);
  });
}

function draw(canvas, picture, side) {
  canvas.width = canvas.height = side;
  const context = canvas.getContext("2d");
  const image = context.createImageData(side, side);
  picture.forEach((value, place) => {
    const level = Math.round(255 * value);
    image.data.set([level, level, level, 255], 4 * place);
  });
  context.putImageData(image, 0, 0);
}

function choose(button, picture, name) {
  for (const other of at("gallery").children) {
    const chosen = other === button;
    other.setAttribute("aria-checked", String(chosen));
    other.tabIndex = chosen || (!button && !other.previousSibling) ? 0 : -1;
  }
  const { side } = state.demo.pictures;
  draw(at("seen"), picture, side);
  at("seen").setAttribute("aria-label", name);
  at("chosen-name").textContent = name;
  state.input?.delete();
  const [, height, width, channels] = state.demo.input_shape;
  const values = enlarged(picture, side, height, width, channels);
  state.input = new Tensor(values, state.demo.input_shape);
  measure().catch(fail);
}

/** Runs both files once, shows what they say, and then times them in turns. */
async function measure() {
  const own = ++state.measurement; // a newer one ends this one
  say("Measuring…");
  const outputs = {};
  for (const name of NAMES) outputs[name] = await run(name);
  if (own !== state.measurement) return;
  showOutputs(outputs);
  const times = { dense: [], sparse: [] };
  const runs = { dense: 1, sparse: 1 };
  for (let round = -WARM_UP; round < ROUNDS; round++) {
    const turns = round % 2 ? NAMES : [...NAMES].reverse();
    for (const name of turns) {
      const taken = await block(name, runs[name]);
      if (own !== state.measurement) return;
      if (round >= 0) times[name].push(...taken);
      else runs[name] = fittingRuns(taken);
    }
    if (round > 0 && round % 4 === 0) {
      showTimes(times, round);
      await new Promise(requestAnimationFrame);
    }
  }
  showTimes(times, ROUNDS);
  say("Measured. Choose another picture, or measure again.");
  document.body.dataset.measured = String(own);
}

async function run(name) {
  const outputs = await state.files[name].run([state.input]);
  const values = outputs[0].toTypedArray().slice();
  outputs.forEach((tensor) => tensor.delete());
  return values;
}

function fittingRuns(taken) {
  const wanted = Math.round(BLOCK_MILLISECONDS / Math.max(median(taken), 0.01));
  return Math.min(Math.max(wanted, 1), 50);
}

function median(values) {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];
}

/** Milliseconds of each run of a block. */
async function block(name, runs) {
  const taken = [];
  for (let number = 0; number < runs; number++) {
    const begin = performance.now();
    const outputs = await state.files[name].run([state.input]);
    taken.push(performance.now() - begin);
    outputs.forEach((tensor) => tensor.delete());
  }
  return taken;
}

function showOutputs(outputs) {
  const best = {};
  for (const name of NAMES) {
    const shares = softmax(outputs[name]);
    best[name] = shares.indexOf(Math.max(...shares));
    [...at(name).querySelectorAll(".bars li")].forEach((row, place) => {
      row.classList.toggle("best", place === best[name]);
      row.querySelector(".fill").style.width = `${100 * shares[place]}%`;
      row.querySelector(".share").textContent = `${(100 * shares[place]).toFixed(1)} %`;
    });
    at(name).dataset.outputs = JSON.stringify([...outputs[name]]);
  }
  const differences = outputs.dense.map((value, n) => Math.abs(value - outputs.sparse[n]));
  const largest = Math.max(...differences);
  const labels = NAMES.map((name) => state.demo.classes[best[name]] ?? "no number");
  const same = best.dense === best.sparse;
  at("agreement").textContent = same ? `the same: ${labels[0]}` : `differ: ${labels.join(", ")}`;
  at("difference").textContent = largest === 0 ? "0" : largest.toExponential(0);
}

function showTimes(times, rounds) {
  const medians = {};
  for (const name of NAMES) {
    medians[name] = median(times[name]);
    const digits = medians[name] < 10 ? 2 : 1;
    at(name).querySelector(".milliseconds").value = `${medians[name].toFixed(digits)} ms`;
  }
  at("ratio").value = `${(medians.dense / medians.sparse).toFixed(1)}×`;
  at("rounds").textContent = String(rounds);
}
