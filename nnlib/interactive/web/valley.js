// Two ways down a valley: plain gradient descent and momentum; and the map of all settings, each a walk of its own.

nn.figure((root, data) => {
  const { curvatures, view, lrs, betas, most, near } = data;
  const counts = nn.array(data.counts); // (beta, lr): steps until the minimum; 0: flies off; most + 1: not there yet
  const start = [...data.start];
  const { element } = nn;
  const short = (value) => String(Number(value.toPrecision(3)));
  const distance = ([a, b]) => Math.sqrt(a * a + b * b);

  // The path of SGD with momentum, and the step from which it stays near the minimum, in words.
  function walk(lr, beta) {
    const path = [[...start]];
    const velocity = [0, 0];
    let last = distance(start) <= near ? -1 : 0; // the last step on which it is far
    for (let step = 1; step <= most; step++) {
      path.push(path[step - 1].map((value, i) => {
        velocity[i] = beta * velocity[i] + curvatures[i] * value;
        return value - lr * velocity[i];
      }));
      if (!(distance(path[step]) <= near)) last = step;
    }
    const staying = distance(path[most]) <= distance(start);
    const arrives = last === most ? `more than ${most}` : String(last + 1);
    return { path, arrives: staying ? arrives : "never: it flies off" };
  }

  // ------------------------------------------------------------------------------------------------------ the controls

  const slider = (label, min, max, value, format) => nn.slider({ label, min, max, value, format, oninput: show });
  const rate = slider("learning rate", 0, lrs.length - 1, data.lr, (i) => short(lrs[i]));
  const memory = slider("β", 0, betas.length - 1, data.beta, (j) => betas[j].toFixed(2));
  const drawn = slider("steps drawn", 1, data.longest, data.steps);
  const ground = nn.canvas(400, 280, "The valley and both paths. Drag the start, or move it by the arrow keys.");
  const chart = nn.canvas(288, 280, "The map of rates and betas. Click a setting, or move by the arrow keys.");
  const map = { x: 34, y: 8, width: 246, height: 230 };
  map.cell = map.width / lrs.length;
  map.line = map.height / betas.length;

  nn.drag(ground, {
    onpoint: ({ x, y }) => setStart((2 * x / ground.width - 1) * view[0], (1 - 2 * y / ground.height) * view[1]),
    onarrow: (dx, dy) => setStart(start[0] + dx * view[0] / 40, start[1] - dy * view[1] / 40),
  });
  nn.drag(chart, {
    onpoint({ x, y }) {
      setSetting(Math.floor((x - map.x) / map.cell), Math.floor((map.y + map.height - y) / map.line));
    },
    onarrow: (dx, dy) => setSetting(rate.value + dx, memory.value - dy),
  });
  function setStart(...p) {
    p.forEach((value, i) => { start[i] = Number(nn.clamp(value, -view[i], view[i]).toFixed(2)); });
    show();
  }
  function setSetting(i, j) {
    rate.value = i; // a slider keeps its value between its ends
    memory.value = j;
    show();
  }

  // --------------------------------------------------------------------------------------------- the valley from above

  function drawGround(paths) {
    const { ctx, width, height } = ground;
    const { text, grid, surface, warm, cool } = nn.colours();
    const place = (p) => [(p[0] / view[0] + 1) * width / 2, (1 - p[1] / view[1]) * height / 2];
    ctx.clearRect(0, 0, width, height);
    Object.assign(ctx, { strokeStyle: grid, lineWidth: 1 });
    const rim = Math.max(...curvatures.map((c, i) => c * view[i] ** 2));
    for (let level = 1; level > 1e-4; level /= 4) { // the places of one height are an ellipse
      const [a, b] = curvatures.map((c, i) => Math.sqrt(rim * level / c) / view[i]);
      ctx.beginPath();
      ctx.ellipse(width / 2, height / 2, a * width / 2, b * height / 2, 0, 0, 2 * Math.PI);
      ctx.stroke();
    }
    paths.forEach((path, k) => {
      const out = path.findIndex((p) => !(Math.abs(p[0] / view[0]) + Math.abs(p[1] / view[1]) < 9)); // far out
      const points = path.slice(0, 1 + (out < 0 ? drawn.value : Math.min(drawn.value, out - 1))).map(place);
      ctx.fillStyle = k ? warm : cool;
      nn.line(ctx, points, { strokeStyle: ctx.fillStyle, dash: k ? [] : [4, 3] });
      for (const [x, y] of points) { // squares without momentum, discs with it: not told apart by colour alone
        ctx.beginPath();
        if (k) ctx.arc(x, y, 2.5, 0, 2 * Math.PI);
        else ctx.rect(x - 2, y - 2, 4, 4);
        ctx.fill();
      }
    });
    ring(ctx, place([0, 0]), 3, text, surface);
    ring(ctx, place(start), 9, text, surface);
  }

  function ring(ctx, [x, y], radius, ...colours) {
    const circle = new Path2D();
    circle.arc(x, y, radius, 0, 2 * Math.PI);
    nn.outlined(ctx, circle, ...colours);
  }

  // ---------------------------------------------------------------------------------------------------------- the map

  const centre = (i, j) => [map.x + (i + 0.5) * map.cell, map.y + map.height - (j + 0.5) * map.line];
  // the fewer steps, the brighter; the largest beta on top
  const shades = nn.shaped(Float32Array.from(counts, (_, k) => {
    const j = betas.length - 1 - Math.floor(k / lrs.length);
    return -Math.log(counts[j * lrs.length + (k % lrs.length)] || NaN); // nothing where it flies off
  }), betas.length, lrs.length);

  function drawChart() {
    const { ctx } = chart;
    const { text, warm, control } = nn.colours();
    nn.axes(chart, map, {
      rows: [["0.0", 0], ["0.5", 50], ["β", 70], ["0.9", 90]].map(([label, j]) => [label, centre(0, j)[1]]),
      columns: [19, 39, 59, 79].map((i) => [short(lrs[i]), centre(i, 0)[0]]),
      label: "learning rate",
    });
    ctx.fillStyle = control;
    ctx.fillRect(map.x, map.y, map.width, map.height);
    nn.pixels(chart, shades, { ...map, map: "viridis" });
    // theory: lr = 2 (1 + beta) / c of the steepest direction; column i is the rate (i + 1) lrs[0]
    const border = betas.map((beta, j) => centre(2 * (1 + beta) / Math.max(...curvatures) / lrs[0] - 1, j));
    nn.line(ctx, border, { strokeStyle: warm, lineWidth: 2.5, dash: [6, 4] });
    ctx.fillStyle = text;
    ctx.fillText("flies off", ...centre(65, 12));
    ring(ctx, centre(rate.value, memory.value), 6);
  }

  // -------------------------------------------------------------------------------------------------------- all of it

  const from = nn.output("start");
  const cell = (tag, ...inside) => element(tag, {}, ...inside);
  const lines = [["■", "cool", "plain"], ["●", "warm", "momentum"]].map(([mark, colour, kind]) => {
    const sign = element("span", { style: `color: var(--${colour})` }, mark);
    const name = element("th", { style: "text-align: left" }, sign, ` ${kind}`);
    const [arrives, left] = ["steps", "distance"].map((what) => nn.output(`${kind}: ${what}`));
    return { arrives, left, element: cell("tr", name, cell("td", arrives), cell("td", left)) };
  });

  function show() {
    const walks = [walk(lrs[rate.value], 0), walk(lrs[rate.value], betas[memory.value])];
    lines.forEach(({ arrives, left }, k) => {
      const far = distance(walks[k].path[drawn.value]);
      arrives.text = walks[k].arrives;
      left.text = far < 1e6 ? far.toPrecision(4) : "over a million";
    });
    from.text = `(${start.map((value) => value.toFixed(2)).join(", ")})`;
    drawGround(walks.map(({ path }) => path));
    drawChart();
  }

  const head = cell("tr", cell("td"), cell("th", "steps to the minimum"), cell("th", "distance left, as drawn"));
  const legend = cell("small", "Both begin at ", from, ", in the large ring: drag it. The map was measured from "
    + `(${data.start.join(", ")}): the brighter, the fewer steps until a walk stays within ${near} of the minimum. `
    + "Dashed: theory's border.");
  nn.add(root, nn.row(ground, chart), nn.row(rate, memory, drawn), cell("table", head, ...lines), legend);
  nn.draw(show);
});
