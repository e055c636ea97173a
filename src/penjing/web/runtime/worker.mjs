// Runs .tflite files in LiteRT.js on the orders of a server on this machine. The same
// code runs in Node (node.mjs) and in a browser (worker.html).

const ARRAYS = { float32: Float32Array, int32: Int32Array, uint8: Uint8Array };

/**
 * Asks for orders and answers them. Throws where the server is gone.
 *
 * @param base Address of the server, ending in a slash.
 * @param litert The module `@litertjs/core`.
 * @param load Function that loads the WebAssembly, given {threads}.
 * @param engine What runs it, for the report.
 */
export async function serve(base, litert, load, engine) {
  const worker = new Worker(base, litert, load, engine);
  for (;;) {
    const response = await fetch(`${base}order`);
    if (response.status === 204) continue; // nothing yet
    const order = await response.json();
    let answer;
    try {
      answer = await worker[order.do](order);
    } catch (error) {
      answer = { error: String(error?.message ?? error).slice(0, 2000) };
    }
    await fetch(`${base}answer`, { method: "POST", body: packed(answer) });
  }
}

/** Length of the JSON, the JSON, and behind it the bytes of the arrays. */
function packed({ arrays = [], ...rest }) {
  const text = new TextEncoder().encode(JSON.stringify(rest));
  const length = new Uint32Array([text.length]);
  return new Blob([length, text, ...arrays]);
}

class Worker {
  constructor(base, litert, load, engine) {
    Object.assign(this, { base, litert, load, engine });
    this.models = new Map();
  }

  async start({ threads }) {
    const runtime = await this.load({ threads });
    this.threads = threads;
    this.available = runtime.liteRtWasm.getThreadCount();
    return { engine: this.engine, available: this.available };
  }

  async open({ name, file }) {
    const bytes = new Uint8Array(await this.#bytes(file));
    const compiled = await this.litert.loadAndCompile(bytes, {
      accelerator: "wasm",
      cpuOptions: { numThreads: this.threads },
    });
    this.models.set(name, { compiled, inputs: [] });
    return {
      inputs: compiled.getInputDetails().map(described),
      outputs: compiled.getOutputDetails().map(described),
    };
  }

  /** Sets the inputs for `run` and `time`. */
  async feed({ name, inputs }) {
    const model = this.models.get(name);
    model.inputs.forEach((tensor) => tensor.delete());
    model.inputs = [];
    for (const { file, dtype, shape } of inputs) {
      const values = new ARRAYS[dtype](await this.#bytes(file));
      model.inputs.push(new this.litert.Tensor(values, shape));
    }
    return {};
  }

  async run({ name }) {
    const { compiled, inputs } = this.models.get(name);
    const tensors = await compiled.run(inputs);
    const arrays = tensors.map((tensor) => tensor.toTypedArray().slice());
    const outputs = tensors.map(({ type }) => ({
      dtype: type.dtype,
      shape: [...type.layout.dimensions],
    }));
    tensors.forEach((tensor) => tensor.delete());
    return { outputs, arrays };
  }

  /** The first run of a block is not counted, for another file ran before. */
  async time({ name, runs }) {
    const { compiled, inputs } = this.models.get(name);
    const milliseconds = [];
    for (let number = -1; number < runs; number++) {
      const begin = performance.now();
      const tensors = await compiled.run(inputs);
      const taken = performance.now() - begin;
      tensors.forEach((tensor) => tensor.delete());
      if (number >= 0) milliseconds.push(taken);
    }
    return { milliseconds };
  }

  async close({ name }) {
    const { compiled, inputs } = this.models.get(name);
    inputs.forEach((tensor) => tensor.delete());
    compiled.delete();
    this.models.delete(name);
    return {};
  }

  async #bytes(file) {
    const response = await fetch(`${this.base}${file}`);
    if (!response.ok) throw new Error(`${file}: status ${response.status}`);
    return response.arrayBuffer();
  }
}

function described({ name, dtype, shape }) {
  return { name, dtype, shape: [...shape] };
}
