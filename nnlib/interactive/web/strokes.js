// A sheet to draw a digit on, and the picture that a network sees of it. `nnlib/interactive/pad.py` computes the same.
//
// Its one idea: a network reads only pictures like those it has learnt from. So a drawing is made into what MNIST would
// have made of it, wherever on the sheet it stands, and as large or small as it is.

const Pad = (() => {
  const SIDE = 280; // of the sheet, in its own units
  const PEN = 2.6; // the pen's thickness in pixels of the picture: MNIST's digits hold as much ink
  const [INK, BOX] = [84, 80]; // the drawing is laid out finely first: its longer side takes 80 of 84 pixels

  // Draw lines, each a list of [x, y], into one box: returns values 0..1 with .shape (84, 84), smooth at their edges.
  function drawInk(strokes) {
    const points = strokes.flat();
    const [low, high] = [Math.min, Math.max].map((f) => [0, 1].map((axis) => f(...points.map((p) => p[axis]))));
    const thickness = (PEN * BOX) / 20;
    const scale = (BOX - thickness) / Math.max(high[0] - low[0], high[1] - low[1], 1e-9);
    const ink = nn.shaped(new Float64Array(INK * INK), INK, INK);
    for (const stroke of strokes) {
      const line = stroke.map((p) => p.map((value, axis) => (value - (low[axis] + high[axis]) / 2) * scale + INK / 2));
      for (let i = 0; i < Math.max(1, line.length - 1); i++) {
        addSegment(ink, line[i], line[i + 1] ?? line[i], thickness / 2);
      }
    }
    return ink;
  }

  // How far a pixel's middle is from the segment decides how dark it becomes.
  function addSegment(ink, [ax, ay], [bx, by], radius) {
    const [dx, dy] = [bx - ax, by - ay];
    const first = (a, b) => Math.max(0, Math.floor(Math.min(a, b) - radius - 1));
    const last = (a, b) => Math.min(INK - 1, Math.ceil(Math.max(a, b) + radius + 1));
    for (let row = first(ay, by); row <= last(ay, by); row++) {
      for (let column = first(ax, bx); column <= last(ax, bx); column++) {
        const [x, y] = [column + 0.5 - ax, row + 0.5 - ay];
        const along = nn.clamp((x * dx + y * dy) / Math.max(dx * dx + dy * dy, 1e-12), 0, 1);
        const distance = Math.hypot(x - along * dx, y - along * dy);
        const place = row * INK + column;
        ink[place] = Math.max(ink[place], Math.min(1, radius + 0.5 - distance));
      }
    }
  }

  // Ink (.shape (rows, columns), 0..1) -> a picture (H, W), Uint8Array 0..255: its longer side takes 20 of 28 pixels,
  // and its centre of mass lies in the pixel (14, 14).
  function centreDigit(ink, [H, W]) {
    const [rows, columns] = ink.shape;
    const [byRow, byColumn] = [new Float64Array(rows), new Float64Array(columns)];
    ink.forEach((value, i) => {
      byRow[Math.floor(i / columns)] += value;
      byColumn[i % columns] += value;
    });
    const picture = nn.shaped(new Uint8Array(H * W), H, W);
    if (!byRow.some((mass) => mass > 0)) return picture;
    const size = Math.max(extent(byRow).length, extent(byColumn).length) / ((Math.min(H, W) * 20) / 28); // of a pixel
    const [fromRows, fromColumns] = [shares(byRow, H, size), shares(byColumn, W, size)];
    for (let i = 0; i < H; i++) {
      for (let j = 0; j < W; j++) {
        let sum = 0;
        for (const [row, a] of fromRows[i]) {
          for (const [column, b] of fromColumns[j]) sum += a * b * ink[row * columns + column];
        }
        picture[i * W + j] = Math.floor(255 * sum + 0.5);
      }
    }
    return picture;
  }

  // Along one axis, for each pixel of the picture: on which pixels of the ink it lies, [[place, share of it], ...].
  function shares(masses, count, size) {
    const { begin, end } = extent(masses);
    const total = masses.reduce((a, b) => a + b);
    const middle = masses.reduce((sum, mass, i) => sum + mass * (i + 0.5), 0) / total;
    const margin = Math.ceil(count / 2 - (middle - begin) / size - 1e-6); // whole pixels, as in MNIST
    const most = Math.floor(count - (end - begin) / size); // so that no ink falls off the picture
    const edge = begin - size * nn.clamp(margin, 0, most);
    return Array.from({ length: count }, (_, i) => {
      const [from, to] = [edge + i * size, edge + (i + 1) * size];
      const covered = [];
      for (let place = Math.max(0, Math.floor(from)); place < Math.min(masses.length, to); place++) {
        covered.push([place, (Math.min(to, place + 1) - Math.max(from, place)) / size]);
      }
      return covered;
    });
  }

  function extent(masses) {
    const begin = masses.findIndex((mass) => mass > 0);
    const end = masses.findLastIndex((mass) => mass > 0) + 1;
    return { begin, end, length: end - begin };
  }

  // The sheet. onchange(picture) after each change, at most once a frame; picture is null while nothing is drawn.
  // examples: an encoded array (n, H, W) of pictures to load by a button, or null.
  function sheet({ shape, examples, onchange }) {
    const keys = "the arrows move the pen, space sets it down or lifts it, c clears.";
    const canvas = nn.canvas(SIDE, SIDE, `Sheet to draw a digit on: ${keys}`);
    const pen = { x: SIDE / 2, y: SIDE / 4, down: false };
    const held = new Set(); // two arrows at once draw a slanted line
    let [strokes, example, waiting] = [[], null, false];

    function changed() {
      redraw();
      if (waiting) return;
      waiting = true;
      requestAnimationFrame(() => {
        waiting = false;
        onchange(example ?? (strokes.length ? centreDigit(drawInk(strokes), shape) : null));
      });
    }
    function begin(point) {
      example = null;
      strokes.push([]);
      extend(point);
    }
    function extend(point) {
      movePen(point);
      strokes.at(-1).push([pen.x, pen.y]);
      changed();
    }
    function movePen({ x, y }) {
      [pen.x, pen.y] = [x, y].map((value) => nn.clamp(value, 0, SIDE));
    }
    function clear() {
      [strokes, example, pen.down] = [[], null, false];
      changed();
    }
    function load(picture) {
      clear();
      example = picture;
      changed();
    }

    nn.drag(canvas, {
      onpoint(point, event) {
        if (!event.isPrimary || !(event.buttons & 1)) return; // one finger, or the left button
        if (event.type === "pointerdown") return begin(point);
        if (!strokes.length) return; // cleared while drawing
        const missed = event.getCoalescedEvents?.() ?? []; // a fast hand makes several points a frame
        (missed.length ? missed : [event]).forEach((moved) => extend(canvas.point(moved)));
      },
      onarrow() {}, // below: two at a time
    });
    canvas.element.addEventListener("pointerdown", () => (pen.down = false));
    canvas.element.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.altKey || event.metaKey) return;
      if (event.key.toLowerCase() === "c") clear();
      if (event.key === " ") event.preventDefault(); // or the page would scroll
      if (event.key === " " && !event.repeat) {
        pen.down = !pen.down;
        if (pen.down) begin(pen);
        else redraw();
      }
      if (!event.key.startsWith("Arrow")) return;
      held.add(event.key);
      const step = (plus, minus) => (SIDE / 28) * (held.has(plus) - held.has(minus));
      const next = { x: pen.x + step("ArrowRight", "ArrowLeft"), y: pen.y + step("ArrowDown", "ArrowUp") };
      if (pen.down) return extend(next);
      movePen(next);
      redraw();
    });
    canvas.element.addEventListener("keyup", (event) => held.delete(event.key));
    for (const event of ["focus", "blur"]) canvas.element.addEventListener(event, () => { held.clear(); redraw(); });

    function redraw() {
      const { ctx, element } = canvas;
      const { text, surface, muted, warm } = nn.colours();
      ctx.fillStyle = surface;
      ctx.fillRect(0, 0, SIDE, SIDE);
      ctx.fillStyle = ctx.strokeStyle = text;
      if (example) drawExample(ctx);
      [ctx.lineWidth, ctx.lineCap, ctx.lineJoin] = [14, "round", "round"];
      for (const stroke of strokes) nn.line(ctx, [stroke[0], ...stroke]); // a touch is a dot
      if (element.matches(":focus-visible")) { // where the pen is: a ring while it is up, a disc when it is down
        ctx.beginPath();
        ctx.arc(pen.x, pen.y, 7, 0, 2 * Math.PI);
        [ctx.lineWidth, ctx.strokeStyle, ctx.fillStyle] = [3, warm, warm];
        if (pen.down) ctx.fill();
        ctx.stroke();
      }
      if (!strokes.length && !example) {
        ctx.fillStyle = muted;
        ctx.textAlign = "center";
        ctx.font = "16px system-ui, sans-serif";
        ctx.fillText("draw a digit here", SIDE / 2, SIDE / 2);
      }
    }
    function drawExample(ctx) {
      const [H, W] = shape;
      example.forEach((value, i) => {
        ctx.globalAlpha = value / 255;
        ctx.fillRect(((i % W) * SIDE) / W, (Math.floor(i / W) * SIDE) / H, SIDE / W, SIDE / H);
      });
      ctx.globalAlpha = 1;
    }

    canvas.element.style.border = "1px solid var(--muted)";
    canvas.element.style.borderRadius = "0.4rem";
    nn.draw(redraw);
    const loading = examples ? nn.list(nn.array(examples)).map((picture, k) => sample(picture, k, load)) : [];
    const buttons = nn.row(nn.button("Clear", clear), ...loading);
    buttons.style.gap = "0.3rem";
    const hint = nn.element("small", {}, `Mouse, finger or pen. By keyboard: ${keys}`);
    const made = nn.element("div", {}, canvas, buttons, hint);
    made.style.cssText = `display: grid; gap: 0.5rem; width: ${SIDE}px; max-width: 100%`;
    return { element: made };
  }

  // A button that shows a picture and loads it.
  function sample(picture, k, load) {
    const button = nn.button("", () => load(picture)).element;
    const face = nn.canvas(32, 32, `example ${k + 1}`);
    nn.pixels(face, picture, { width: 32, height: 32, low: 0, high: 255 });
    button.style.padding = "1px";
    return nn.add(button, face);
  }

  // An answer in words, and a bar with its probability for each label: show(probabilities), or show(null).
  function answers(labels) {
    const { element } = nn;
    const answer = nn.output("answer");
    answer.element.style.cssText = "font-size: 1.25rem; font-weight: bold";
    const bars = labels.map((label) => {
      const bar = nn.bar(`probability of ${label}`);
      bar.number.element.style.cssText = "text-align: right; white-space: nowrap";
      const line = element("div", {}, element("span", {}, label), bar, bar.number);
      line.style.display = "contents"; // its three parts stand in the columns of one grid
      return { line, bar };
    });
    function show(probabilities) {
      const best = probabilities ? nn.argmax(probabilities) : -1;
      answer.text = probabilities ? `${labels[best]}, ${nn.percent(probabilities[best], 0)} sure` : "draw a digit";
      bars.forEach(({ line, bar }, k) => {
        line.style.fontWeight = k === best ? "bold" : "normal";
        bar.show(probabilities ? probabilities[k] : 0, k === best ? "accent" : "muted");
        if (!probabilities) bar.number.text = "";
      });
    }
    const grid = element("div", {}, ...bars.map(({ line }) => line));
    grid.style.cssText = "display: grid; grid-template-columns: auto 1fr 4.5rem; gap: 0.4rem 0.6rem";
    grid.style.alignItems = "center";
    return { answer, bars: grid, show };
  }

  return { drawInk, centreDigit, sheet, answers };
})();
