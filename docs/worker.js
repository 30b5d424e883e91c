/* Browsers start no worker from a file. In a folder, a hidden frame runs the search's script instead. */
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      frame.title = "search";
      document.documentElement.append(frame);
      const inside = frame.contentWindow;
      const run = (address) => new Promise((resolve, reject) => {
        const script = inside.document.createElement("script");
        Object.assign(script, { src: address, onload: resolve, onerror: reject });
        inside.document.documentElement.append(script);
      });
      const told = (target, data) => target.dispatchEvent(new MessageEvent("message", { data }));
      inside.postMessage = (data) => { told(this, data); this.onmessage?.({ data }); };
      inside.importScripts = (...all) => Promise.all(all.map(run));
      const ready = run(url);
      this.postMessage = (data) => ready.then(() => { told(inside, data); });
      this.terminate = () => frame.remove();
    }
  };
}
