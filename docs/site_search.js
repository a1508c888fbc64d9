// The theme searches in a Worker, which no browser starts from a file. There, an iframe stands in for it.
if (location.protocol === "file:")
  window.Worker = class extends EventTarget {
    constructor(url) {
      super()
      const frame = document.body.appendChild(document.createElement("iframe"))
      frame.hidden = true
      this.inner = frame.contentWindow
      this.inner.postMessage = data => this.dispatchEvent(new MessageEvent("message", {data}))
      const script = this.inner.document.createElement("script")
      script.src = url
      this.loaded = new Promise(resolve => script.onload = resolve)
      this.inner.document.body.append(script)
    }
    postMessage(data) {
      this.loaded.then(() => this.inner.dispatchEvent(new MessageEvent("message", {data})))
    }
  }
