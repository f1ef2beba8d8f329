// Charts as SVG, drawn anew when their figures or their size have changed. No library: there are two kinds.

const NS = "http://www.w3.org/2000/svg";
const PAD = { left: 44, right: 10, top: 8, bottom: 22 };

function el(name, attributes, parent) {
  const made = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  parent?.append(made);
  return made;
}

function text(parent, x, y, words, anchor) {
  el("text", { x, y, "text-anchor": anchor }, parent).textContent = words;
}

/** About `count` round numbers from `low` to `high`; whole ones where `whole` says so. */
export function ticks(low, high, count, whole = false) {
  const span = high - low || 1;
  const rough = span / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  let step = [1, 2, 2.5, 5, 10].map((one) => one * power).find((one) => one >= rough * 0.999) ?? power;
  if (whole) step = Math.max(1, Math.round(step));
  const found = [];
  for (let at = Math.ceil(low / step - 1e-9) * step; at <= high + step * 1e-6; at += step) found.push(Math.abs(at) < step / 1e6 ? 0 : at);
  return found;
}

class Chart {
  constructor(box, label) {
    this.box = box;
    this.label = label;
    this.drawn = null;
    box.setAttribute("role", "img");
    new ResizeObserver(() => this.redraw()).observe(box);
    box.addEventListener("pointermove", (event) => this.point(event));
    box.addEventListener("pointerdown", (event) => this.point(event));
    box.addEventListener("pointerleave", () => this.unpoint());
  }

  show(data) {
    const key = JSON.stringify(data);
    if (key === this.drawn) return;
    this.drawn = key;
    this.data = data;
    this.redraw();
  }

  redraw() {
    if (!this.data) return;
    this.unpoint();
    this.box.replaceChildren();
    const empty = this.data.points.length === 0;
    this.box.setAttribute("aria-label", empty ? `${this.label}: nothing yet` : `${this.label}: ${this.data.told ?? ""}`);
    if (empty) {
      const none = document.createElement("span");
      none.className = "none";
      none.textContent = this.data.none ?? "Nothing yet";
      this.box.append(none);
      return;
    }
    this.width = this.box.clientWidth;
    this.height = this.box.clientHeight;
    this.svg = el("svg", { viewBox: `0 0 ${this.width} ${this.height}`, "aria-hidden": "true" }, this.box);
    this.draw();
  }

  y(value) {
    const { low, high } = this;
    return this.height - PAD.bottom - ((value - low) / (high - low || 1)) * (this.height - PAD.top - PAD.bottom);
  }

  axis(format, count) {
    for (const at of ticks(this.low, this.high, count, this.data.whole)) {
      const y = Math.round(this.y(at)) + 0.5;
      el("line", { x1: PAD.left, x2: this.width - PAD.right, y1: y, y2: y, class: at === 0 ? "zero" : "grid" }, this.svg);
      text(this.svg, PAD.left - 7, y + 3.5, format(at), "end");
    }
  }

  tip(x, y, words) {
    this.unpoint();
    const tip = document.createElement("div");
    tip.className = "tip";
    tip.textContent = words;
    this.box.append(tip);
    const half = tip.offsetWidth / 2;
    tip.style.left = `${Math.min(Math.max(x, half), this.width - half)}px`;
    tip.style.top = `${Math.max(y - 8, tip.offsetHeight)}px`;
  }

  unpoint() {
    this.box.querySelectorAll(".tip, .hair, .dot").forEach((one) => one.remove());
  }
}

/** points: [x, y, words]; base: a value to compare with, drawn dashed; x and y say how to write a number. */
export class Line extends Chart {
  draw() {
    const { points, base, x, y } = this.data;
    const values = points.map((one) => one[1]).concat(base === undefined ? [] : [base]);
    const room = Math.max(0.01, (Math.max(...values) - Math.min(...values)) * 0.12);
    this.low = Math.max(0, Math.min(...values) - room);
    this.high = Math.min(1, Math.max(...values) + room);
    this.first = points[0][0];
    this.last = points.at(-1)[0];
    this.axis(y, this.height / 42);
    for (const at of ticks(this.first, this.last, this.width / 90, this.data.whole)) {
      text(this.svg, this.x(at), this.height - 5, x(at), "middle");
    }
    if (base !== undefined) {
      const at = this.y(base);
      el("line", { x1: PAD.left, x2: this.width - PAD.right, y1: at, y2: at, class: "dash" }, this.svg);
      text(this.svg, this.width - PAD.right, at - 5, this.data.baseName, "end");
    }
    const path = points.map((one, at) => `${at ? "L" : "M"}${this.x(one[0]).toFixed(1)} ${this.y(one[1]).toFixed(1)}`).join("");
    const floor = this.height - PAD.bottom;
    el("path", { d: `${path}L${this.x(this.last).toFixed(1)} ${floor}L${this.x(this.first).toFixed(1)} ${floor}Z`, class: "area" }, this.svg);
    el("path", { d: path, class: "line" }, this.svg);
    if (points.length === 1) el("circle", { cx: this.x(this.first), cy: this.y(points[0][1]), r: 4, class: "line" }, this.svg);
  }

  x(value) {
    return PAD.left + ((value - this.first) / (this.last - this.first || 1)) * (this.width - PAD.left - PAD.right);
  }

  point(event) {
    if (!this.data?.points.length) return;
    const at = event.clientX - this.box.getBoundingClientRect().left;
    const near = this.data.points.reduce((best, one) => (Math.abs(this.x(one[0]) - at) < Math.abs(this.x(best[0]) - at) ? one : best));
    const [x, y] = [this.x(near[0]), this.y(near[1])];
    this.tip(x, y, near[2]);
    el("line", { x1: x, x2: x, y1: PAD.top, y2: this.height - PAD.bottom, class: "hair" }, this.svg);
    el("circle", { cx: x, cy: y, r: 5, class: "dot" }, this.svg);
  }
}

/** points: [label, [values, stacked], words]; only so many as have room are drawn, the last ones. */
export class Bars extends Chart {
  draw() {
    const room = this.width - PAD.left - PAD.right;
    this.points = this.data.points.slice(-Math.max(1, Math.floor(room / 4)));
    this.low = 0;
    this.high = Math.max(...this.points.map((one) => one[1].reduce((sum, part) => sum + part, 0))) * 1.05 || 1;
    this.axis(this.data.y, this.height / 42);
    this.step = Math.min(room / this.points.length, 64);
    const gap = this.step > 6 ? Math.max(1.5, this.step * 0.18) : 0.5;
    const every = Math.ceil((this.data.labelWidth ?? 34) / this.step);
    this.points.forEach(([label, parts], at) => {
      const x = PAD.left + at * this.step;
      let below = 0;
      parts.forEach((part, kind) => {
        const [top, bottom] = [this.y(below + part), this.y(below)];
        if (part > 0) {
          const rounded = kind === parts.length - 1 && this.step > 8 ? 2 : 0;
          el("rect", { x: x + gap / 2, width: Math.max(1, this.step - gap), y: top, height: Math.max(1, bottom - top), rx: rounded, class: `bar${kind}` }, this.svg);
        }
        below += part;
      });
      // Labels count back from the last, which is the one that is looked for.
      if ((this.points.length - 1 - at) % every === 0) text(this.svg, x + this.step / 2, this.height - 5, label, "middle");
    });
  }

  point(event) {
    if (!this.points?.length || !this.data.points.length) return;
    const at = Math.floor((event.clientX - this.box.getBoundingClientRect().left - PAD.left) / this.step);
    const chosen = this.points[at];
    if (!chosen) return this.unpoint();
    this.tip(PAD.left + (at + 0.5) * this.step, this.y(chosen[1].reduce((sum, part) => sum + part, 0)), chosen[2]);
  }
}
