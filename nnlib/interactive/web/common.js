"use strict";
// What every interactive figure uses, under the one name `nn`: see the list at the end.
// A figure is plain HTML and canvases. Each control is an object with `.element`, which `nn.add` puts on the page.

const nn = (() => {
  const root = document.documentElement;
  const drawings = []; // what is to be drawn again when light turns to dark

  // ------------------------------------------------------------------------------------------------ the figure itself

  // Call make(root, data): root is the empty element to fill, data the object that Python handed over.
  function figure(make) {
    const main = document.getElementById("figure");
    try {
      make(main, JSON.parse(document.getElementById("data").textContent));
    } catch (error) {
      add(main, element("p", { class: "error" }, `This figure could not be drawn: ${error.message}`));
      throw error; // for the console, and for the tests
    }
  }

  // Make an element: nn.element("p", {class: "muted"}, "text", another, ...).
  function element(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    return add(made, ...children);
  }

  // Put elements, controls or texts into an element, and return it.
  function add(parent, ...items) {
    parent.append(...items.map((item) => item.element ?? item));
    return parent;
  }

  const row = (...items) => element("div", { class: "row" }, ...items);
  const top = (...items) => element("div", { class: "row top" }, ...items); // all begin at the same height
  const column = (...items) => element("div", { class: "column" }, ...items);

  // Call draw now, and again whenever the colours change.
  function draw(drawing) {
    drawings.push(drawing);
    drawing();
  }

  function setTheme(theme) {
    if (root.dataset.theme === theme) return;
    root.dataset.theme = theme;
    drawings.forEach((drawing) => drawing());
  }

  // ------------------------------------------------------------------------------------------------------------ arrays

  const TYPES = {
    float32: Float32Array, float64: Float64Array, uint8: Uint8Array, int8: Int8Array,
    int16: Int16Array, uint16: Uint16Array, int32: Int32Array,
  };

  // What `encode` made of an array -> a typed array (float16 becomes Float32Array) with .shape.
  function array({ dtype, shape, base64 }) {
    const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
    const values = dtype === "float16" ? fromHalf(new Uint16Array(bytes.buffer)) : new TYPES[dtype](bytes.buffer);
    return shaped(values, ...shape);
  }

  const shaped = (values, ...shape) => Object.assign(values, { shape });

  // An array (n, ...) -> a list of its n parts, each with its .shape; no number is copied.
  function list(values) {
    const [n, ...shape] = values.shape;
    const size = values.length / n;
    return Array.from({ length: n }, (_, k) => shaped(values.subarray(k * size, (k + 1) * size), ...shape));
  }

  const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
  const argmax = (values) => values.indexOf(Math.max(...values));

  // float16 has 1 bit of sign, 5 of exponent, 10 of fraction.
  function fromHalf(halves) {
    return Float32Array.from(halves, (half) => {
      const exponent = (half >> 10) & 31;
      const fraction = half & 1023;
      const sign = half & 32768 ? -1 : 1;
      if (exponent === 31) return fraction ? NaN : sign * Infinity;
      if (exponent === 0) return sign * fraction * 2 ** -24;
      return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
    });
  }

  // ---------------------------------------------------------------------------------------------------------- controls

  let count = 0;
  const newId = () => `nn${++count}`; // a label needs to say whose it is

  // As many digits after the point as the step has.
  const digits = (step) => (String(step).split(".")[1] ?? "").length;

  // A slider with its label before it and its value behind it. Setting .value does not call oninput.
  function slider({ label, min, max, step = 1, value = min, format, oninput = () => {} }) {
    const id = newId();
    const input = element("input", { type: "range", id, min, max, step });
    const shown = element("output", { for: id, "data-name": label });
    const control = {
      element: element("div", { class: "slider" }, element("label", { for: id }, label), input, shown),
      input,
      get value() { return Number(input.value); },
      set value(next) {
        input.value = next;
        show();
      },
    };
    const text = (number) => String(format ? format(number) : number.toFixed(digits(step)));
    function show() {
      shown.textContent = text(control.value);
      input.setAttribute("aria-valuetext", shown.textContent);
    }
    // Room for the longest text, or the slider would change its length under the hand.
    const lengths = [min, max, value].map((number) => text(number).length);
    shown.style.width = `${Math.max(...lengths)}ch`;
    input.addEventListener("input", () => {
      show();
      oninput(control.value);
    });
    control.value = value;
    return control;
  }

  function button(label, onclick) {
    const made = element("button", { type: "button" }, label);
    made.addEventListener("click", onclick);
    return { element: made };
  }

  // A box to tick: onchange(true or false).
  function toggle(label, checked, onchange = () => {}) {
    const input = element("input", { type: "checkbox" });
    input.checked = checked;
    input.addEventListener("change", () => onchange(input.checked));
    return {
      element: element("label", { class: "toggle" }, input, label),
      get value() { return input.checked; },
      set value(next) { input.checked = next; },
    };
  }

  // One of several: options are texts; onchange(text).
  function choice(label, options, onchange = () => {}) {
    const id = newId();
    const select = element("select", { id }, ...options.map((option) => element("option", {}, option)));
    select.addEventListener("change", () => onchange(select.value));
    return {
      element: element("div", { class: "choice" }, element("label", { for: id }, label), select),
      get value() { return select.value; },
      set value(next) { select.value = next; },
    };
  }

  // A number or a word that changes: nn.output("loss", "0.31"); later .text = "0.30".
  function output(name, text = "") {
    const made = element("output", { "data-name": name }, text);
    return {
      element: made,
      get text() { return made.textContent; },
      set text(next) { made.textContent = next; },
    };
  }

  const percent = (share, digits = 1) => `${(100 * share).toFixed(digits)} %`;
  const signed = (value, digits) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(digits)}`;

  // A bar in a track, and its number, for the figure to put where it likes: show(a share of 1, a colour of the look).
  function bar(name, format = percent) {
    const number = output(name);
    number.element.setAttribute("aria-live", "off"); // the answer is read out; many changing numbers are not
    const filled = element("div");
    function show(share, colour) {
      number.text = format(share);
      number.element.dataset.value = share; // all its digits
      filled.style.cssText = `width: ${100 * share}%; background: var(--${colour})`;
    }
    return { element: element("div", { class: "bar" }, filled), number, show };
  }

  // ---------------------------------------------------------------------------------------------------------- canvases

  // A canvas of width x height logical units, crisp on dense screens, and narrower where the page is.
  function canvas(width, height, label) {
    const made = element("canvas", { role: "img", "aria-label": label });
    const density = Math.max(2, window.devicePixelRatio || 1);
    made.width = Math.round(width * density);
    made.height = Math.round(height * density);
    made.style.width = `${width}px`;
    made.style.aspectRatio = `${width} / ${height}`;
    const ctx = made.getContext("2d");
    ctx.scale(density, density);
    ctx.font = "13px system-ui, sans-serif";
    function point(event) {
      const box = made.getBoundingClientRect();
      return {
        x: ((event.clientX - box.left) / box.width) * width,
        y: ((event.clientY - box.top) / box.height) * height,
      };
    }
    return { element: made, ctx, width, height, point };
  }

  // A canvas with a line of text below it.
  const captioned = (canvas, ...caption) =>
    element("div", { class: "captioned" }, canvas, element("small", {}, ...caption));

  // Let a canvas be dragged on: onpoint({x, y}, event) while a mouse, finger or pen is down;
  // onarrow(dx, dy, event) for the arrow keys: dx, dy are -1, 0 or 1, y pointing down.
  function drag({ element: made, point }, { onpoint, onarrow }) {
    made.tabIndex = 0;
    made.setAttribute("role", "application"); // so that a screen reader hands over the arrow keys
    made.style.touchAction = "none"; // a finger drags the thing, not the page
    made.style.cursor = "pointer";
    made.addEventListener("pointerdown", (event) => {
      made.setPointerCapture(event.pointerId);
      onpoint(point(event), event);
    });
    made.addEventListener("pointermove", (event) => {
      if (made.hasPointerCapture(event.pointerId)) onpoint(point(event), event);
    });
    const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    made.addEventListener("keydown", (event) => {
      if (!arrows[event.key] || event.ctrlKey || event.altKey || event.metaKey) return;
      event.preventDefault(); // or the page would scroll
      onarrow(...arrows[event.key], event);
    });
  }

  const MAPS = {
    grey: ["#000000", "#ffffff"],
    diverging: ["#053061", "#4393c3", "#f7f7f7", "#d6604d", "#67001f"], // blue takes away, red adds, 0 is white
    viridis: ["#440154", "#3b528b", "#21918c", "#5ec962", "#fde725"],
  };

  const inParts = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
  const STOPS = Object.fromEntries(Object.entries(MAPS).map(([name, stops]) => [name, stops.map(inParts)]));

  // The colour, [red, green, blue] in 0..255, of a value between low and high.
  function colour(value, low, high, map = "grey") {
    const stops = STOPS[map];
    const place = clamp((value - low) / (high - low || 1), 0, 1) * (stops.length - 1);
    const i = Math.min(Math.floor(place), stops.length - 2);
    return stops[i].map((part, c) => Math.round(part + (place - i) * (stops[i + 1][c] - part)));
  }

  // The values at the ends of a map, if nobody names them: those of the array; of a diverging map, as far down as up.
  function ends(values, map) {
    let [least, most] = [Infinity, -Infinity];
    for (const value of values) {
      if (value < least) least = value; // never true of NaN
      if (value > most) most = value;
    }
    if (map !== "diverging") return [least, most];
    const limit = Math.max(-least, most);
    return [-limit, limit];
  }

  // Draw a small array as enlarged pixels into the box x, y, width, height. Its .shape is (H, W), NaN being left out,
  // or (H, W, 3) for colours in 0..255 (Uint8Array) or 0..1. low, high: the values at the ends of the map.
  function pixels({ ctx }, values, { x = 0, y = 0, width, height, low, high, map = "grey" }) {
    const [H, W, channels = 1] = values.shape;
    const picture = new ImageData(W, H);
    if (channels === 3) {
      const white = values instanceof Uint8Array ? 255 : 1;
      for (let i = 0; i < H * W; i++) {
        const parts = [0, 1, 2].map((c) => (255 * values[3 * i + c]) / white);
        picture.data.set([...parts, 255], 4 * i);
      }
    } else {
      const [least, most] = ends(values, map);
      for (let i = 0; i < H * W; i++) {
        if (Number.isNaN(values[i])) continue; // stays transparent
        picture.data.set([...colour(values[i], low ?? least, high ?? most, map), 255], 4 * i);
      }
    }
    const small = element("canvas");
    small.width = W;
    small.height = H;
    small.getContext("2d").putImageData(picture, 0, 0);
    ctx.save();
    ctx.imageSmoothingEnabled = false; // pixels are squares
    ctx.drawImage(small, x, y, width, height);
    ctx.restore();
  }

  // Draw a line through points [x, y]. style: strokeStyle, lineWidth and whatever else a canvas has; dash: its pattern.
  function line(ctx, points, { dash = [], ...style } = {}) {
    Object.assign(ctx, style);
    ctx.setLineDash(dash);
    ctx.beginPath();
    points.forEach((point) => ctx.lineTo(...point));
    ctx.stroke();
    ctx.setLineDash([]);
  }

  // Draw a Path2D so that it is seen on light and on dark: a wide line, and a thin one upon it.
  function outlined(ctx, path, colour = "black", around = "white") {
    for (const [strokeStyle, lineWidth] of [[around, 5], [colour, 2.5]]) {
      Object.assign(ctx, { strokeStyle, lineWidth });
      ctx.stroke(path);
    }
  }

  // Clear a chart, and draw its axes around a box {x, y, width, height}. rows: [text, y] of each horizontal line;
  // columns: [text, x] of each number below; label: what they count.
  function axes({ ctx, width, height }, box, { rows, columns, label }) {
    const { muted, grid } = colours();
    const bottom = box.y + box.height;
    ctx.clearRect(0, 0, width, height);
    Object.assign(ctx, { fillStyle: muted, textBaseline: "middle", textAlign: "right" });
    for (const [text, y] of rows) {
      ctx.fillText(text, box.x - 5, y);
      line(ctx, [[box.x, y], [box.x + box.width, y]], { strokeStyle: grid, lineWidth: 1 });
    }
    ctx.textAlign = "center";
    for (const [text, x] of columns) ctx.fillText(text, x, bottom + 14);
    ctx.fillText(label, box.x + box.width / 2, bottom + 32);
  }

  // The colours of the look, as CSS texts; `series` are told apart by the colour-blind too.
  function colours() {
    const style = getComputedStyle(root);
    const get = (name) => style.getPropertyValue(`--${name}`).trim();
    const names = ["text", "muted", "grid", "surface", "control", "accent", "warm", "cool"];
    return { ...Object.fromEntries(names.map((name) => [name, get(name)])), series: get("series").split(/\s+/) };
  }

  // ------------------------------------------------------------------------------------------------------- the player

  const reducedMotion = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

  // A slider over steps, with previous, next and play: show(i), whenever one is chosen, draws step i of labels.length.
  // frames: addresses of pictures, one a label; then no show is needed. alt: what the pictures show.
  function player({ labels, label, value = labels.length - 1, show = () => {}, frames, alt = "" }) {
    const last = labels.length - 1;
    const picture = frames && element("img", { alt });
    let timer = null;
    const steps = slider({ label, min: 0, max: last, value, format: (i) => labels[i], oninput: (i) => go(i) });
    const previous = button("‹", () => go(steps.value - 1));
    const next = button("›", () => go(steps.value + 1));
    const play = button("Play", () => (timer ? stop() : start()));
    steps.element.querySelector("output").style.width = `${Math.max(...labels.map((text) => text.length))}ch`;
    previous.element.setAttribute("aria-label", "previous");
    next.element.setAttribute("aria-label", "next");

    function go(i, playing = false) {
      if (!playing) stop();
      mark(i);
      show(steps.value);
    }
    function mark(i) {
      steps.value = i; // a slider keeps its value between its ends
      previous.element.setAttribute("aria-disabled", steps.value <= 0); // not disabled: that would lose the focus
      next.element.setAttribute("aria-disabled", steps.value >= last);
      if (frames) picture.src = frames[steps.value];
    }
    function start() {
      if (steps.value >= last) go(0);
      const from = steps.value;
      const begun = performance.now();
      const pause = Math.min(500, 4500 / last); // whatever their number: nothing moves for more than five seconds
      timer = setInterval(() => {
        go(from + Math.floor((performance.now() - begun) / pause), true);
        if (steps.value >= last) stop();
      }, pause);
      play.element.textContent = "Stop";
    }
    function stop() {
      clearInterval(timer);
      timer = null;
      play.element.textContent = "Play";
    }

    mark(value);
    const controls = row(previous, ...(reducedMotion() || last < 1 ? [] : [play]), next, steps);
    return {
      element: element("div", { class: "player" }, ...(frames ? [picture] : []), controls),
      get value() { return steps.value; },
      set value(i) { go(i); },
    };
  }

  // ----------------------------------------------------------------------------------------- the page around the frame

  if (!root.dataset.theme) {
    const dark = matchMedia("(prefers-color-scheme: dark)");
    setTheme(dark.matches ? "dark" : "light");
    dark.addEventListener("change", () => setTheme(dark.matches ? "dark" : "light"));
  }
  if (window.parent !== window) {
    root.classList.add("framed");
    addEventListener("message", (event) => {
      const told = event.source === window.parent && event.data?.nnTheme;
      if (["light", "dark"].includes(told)) setTheme(told);
    });
    const height = () => Math.ceil(document.body.getBoundingClientRect().height);
    new ResizeObserver(() => window.parent.postMessage({ nnHeight: height() }, "*")).observe(document.body);
  }

  return {
    figure, element, add, row, top, column, draw, array, shaped, list, clamp, argmax,
    slider, button, toggle, choice, output, percent, signed, bar,
    canvas, captioned, drag, pixels, colour, line, outlined, axes, colours, player, reducedMotion,
  };
})();
