// Browsers start no worker for pages that are opened from a folder. The search then
// runs in a hidden frame, by the same messages.
if (location.protocol === "file:") {
  window.Worker = class {
    #frame = document.createElement("iframe");
    #waiting = [];
    #ready = false;

    constructor(url) {
      this.#frame.hidden = true;
      document.body.append(this.#frame);
      const inner = this.#frame.contentWindow;
      const script = inner.document.createElement("script");
      inner.postMessage = (data) => setTimeout(() => this.onmessage?.({ data }));
      script.src = new URL(url, location.href).href;
      script.onerror = () => this.onerror?.(new Error(`cannot load ${url}`));
      script.onload = () => {
        this.#ready = true;
        this.#waiting.splice(0).forEach((data) => this.postMessage(data));
      };
      inner.document.body.append(script);
    }

    postMessage(data) {
      if (!this.#ready) return void this.#waiting.push(data);
      const inner = this.#frame.contentWindow;
      setTimeout(() => inner.dispatchEvent(new MessageEvent("message", { data })));
    }

    terminate() {
      this.#frame.remove();
    }
  };
}
