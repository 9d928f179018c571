// Move a window over a picture: its nine pixels times nine weights, and their sum, which is one pixel of the output.

nn.figure((root, { image: encoded, kernel: first, presets, at, largest }) => {
  const { element } = nn;
  const SIDE = 320; // of the longer side of the picture, in the canvas's units
  const image = nn.array(encoded);
  const [H, W] = image.shape;
  const pixel = SIDE / Math.max(H, W);
  const [Ho, Wo] = [H - 2, W - 2];
  let [row, column] = at; // the window's upper left pixel
  let kernel = Array.from(nn.array(first));
  const seen = new Uint8Array(Ho * Wo); // where the window has been
  let timer = null;

  const pixelAt = (k, r = row, c = column) => image[(r + Math.floor(k / 3)) * W + c + (k % 3)];
  const answerAt = (r, c) => kernel.reduce((sum, weight, k) => sum + weight * pixelAt(k, r, c), 0);

  // ---------------------------------------------------------------------------------------------- the two pictures

  const input = nn.canvas(W * pixel, H * pixel, "The picture. Drag the window, or move it with the arrow keys.");
  const output = nn.canvas(Wo * pixel, Ho * pixel, "The output so far. Drag to choose a pixel, or use the arrow keys.");
  for (const [canvas, reach] of [[input, 1.5], [output, 0.5]]) { // the window's middle lies under the finger
    nn.drag(canvas, {
      onpoint: ({ x, y }) => go(Math.round(y / pixel - reach), Math.round(x / pixel - reach)),
      onarrow: (dx, dy) => go(row + dy, column + dx),
    });
  }

  function go(r, c) {
    stop();
    const [oldRow, oldColumn] = [row, column];
    [row, column] = [nn.clamp(r, 0, Ho - 1), nn.clamp(c, 0, Wo - 1)];
    const steps = Math.max(Math.abs(row - oldRow), Math.abs(column - oldColumn), 1);
    const between = (from, to, k) => Math.round(from + ((to - from) * k) / steps);
    for (let k = 0; k <= steps; k++) { // a fast hand leaves no gaps
      seen[between(oldRow, row, k) * Wo + between(oldColumn, column, k)] = 1;
    }
    show();
  }

  function draw() {
    nn.pixels(input, image, { width: W * pixel, height: H * pixel, low: 0, high: 1 });
    frame(input, column, row, 3);
    output.ctx.fillStyle = nn.colours().grid;
    output.ctx.fillRect(0, 0, Wo * pixel, Ho * pixel);
    const sum = kernel.reduce((a, b) => a + b, 0);
    const size = kernel.reduce((a, b) => a + Math.abs(b), 0);
    const edges = Math.abs(sum) < 1e-9 && size > 0; // then the output is a difference, and has two signs
    legend.textContent = edges ? "Output: red above 0, blue below, white 0." : "Output: black is 0, white 1 (or more).";
    for (let place = 0; place < Ho * Wo; place++) {
      if (!seen[place]) continue;
      const [r, c] = [Math.floor(place / Wo), place % Wo];
      const [low, high, map] = edges ? [-size / 2, size / 2, "diverging"] : [0, 1, "grey"];
      output.ctx.fillStyle = `rgb(${nn.colour(answerAt(r, c), low, high, map)})`;
      output.ctx.fillRect(c * pixel, r * pixel, pixel + 0.5, pixel + 0.5); // no seams
    }
    frame(output, column, row, 1);
  }
  function frame({ ctx }, x, y, size) {
    const square = new Path2D();
    square.rect(x * pixel, y * pixel, size * pixel, size * pixel);
    nn.outlined(ctx, square, "#d55e00");
  }

  // ---------------------------------------------------------------------------------------------- the nine products

  const CELL = "display: grid; place-content: center; min-height: 2.25rem; border: 1px solid var(--grid)";
  const nine = Array.from({ length: 9 }, (_, k) => k);
  const place = (k) => `row ${Math.floor(k / 3) + 1}, column ${(k % 3) + 1}`;
  const pixels = nine.map((k) => nn.output(`pixel ${place(k)}`));
  const products = nine.map((k) => nn.output(`product ${place(k)}`));
  const weights = nine.map((k) => {
    const limits = { step: 1, min: -largest, max: largest };
    const box = element("input", { type: "number", ...limits, "aria-label": `weight ${place(k)}` });
    box.style.cssText = "min-width: 0; width: 100%; padding: 0; text-align: center; border-radius: 0";
    box.addEventListener("input", () => {
      const value = box.valueAsNumber; // NaN while nothing, or half a number, stands there
      kernel[k] = nn.clamp(value || 0, -largest, largest);
      choice.value = "my own";
      show();
    });
    box.addEventListener("change", fillIn); // leave no nonsense there
    return box;
  });
  const sum = nn.output("sum");
  const position = nn.output("place");
  const legend = element("small");

  function fillIn() {
    weights.forEach((box, k) => (box.value = String(Number(kernel[k].toFixed(3)))));
  }
  function show() {
    seen[row * Wo + column] = 1;
    const signed = (value) => value.toFixed(3).replace(/^-(0\.000)$/, "$1").replace("-", "−");
    nine.forEach((k) => {
      const value = pixelAt(k);
      pixels[k].text = value.toFixed(3);
      products[k].text = signed(kernel[k] * value);
      const strength = Math.min(1, Math.abs(kernel[k] * value)) * 60; // red adds, blue takes away
      const tint = kernel[k] > 0 ? "#d6604d" : "#4393c3";
      products[k].element.style.cssText = `${CELL}; background: color-mix(in srgb, ${tint} ${strength}%, transparent)`;
      const [light, dark] = [`rgb(${nn.colour(value, 0, 1)})`, value > 0.5 ? "black" : "white"];
      pixels[k].element.style.cssText = `background: ${light}; color: ${dark}; ${CELL}`;
    });
    sum.text = signed(answerAt(row, column));
    position.text = `row ${row}, column ${column}`;
    draw();
  }

  // -------------------------------------------------------------------------------------------------- the controls

  function table(title, cells, width = 3.1) {
    const made = element("div", {}, ...cells);
    made.style.cssText = `font-size: 0.875rem; display: grid; grid-template-columns: repeat(3, ${width}rem)`;
    return element("div", {}, element("small", {}, title), made);
  }
  for (const { element: cell } of [...pixels, ...products]) cell.ariaLive = "off"; // only the sum is read out

  const choice = nn.choice("kernel", ["my own", ...presets.map(({ name }) => name)], (chosen) => {
    const preset = presets.find(({ name }) => name === chosen);
    if (!preset) return;
    kernel = Array.from(nn.array(preset.kernel));
    fillIn();
    show();
  });
  const same = presets.find(({ kernel: other }) => nn.array(other).every((weight, k) => weight === kernel[k]));
  choice.value = same ? same.name : "my own";

  const stop = () => clearInterval(timer);
  // From the upper left to the lower right, row by row, in about four seconds.
  function slideOverAll() {
    empty();
    let done = nn.reducedMotion() ? Ho - 1 : 0; // rows
    function next() {
      done += 1;
      seen.fill(1, 0, done * Wo);
      [row, column] = [done - 1, Wo - 1];
      show();
      if (done === Ho) stop();
    }
    timer = setInterval(next, 4000 / Ho);
    next();
  }
  function empty() {
    stop();
    seen.fill(0);
    show();
  }

  const halves = [["Picture", input], ["Output", output]].map(([name, canvas]) => {
    const half = nn.column(element("strong", {}, name), canvas);
    half.style.flexBasis = "9.5rem"; // side by side on a phone too
    return half;
  });
  const verdict = element("div", {}, "= ", sum);
  verdict.style.cssText = "font-size: 1.25rem; font-weight: bold; min-width: 5rem";
  const sign = (text) => element("strong", { "aria-hidden": "true" }, text);
  nn.add(root, nn.top(...halves), legend);
  const tables = [table("pixels", pixels), table("kernel", weights), table("products", products, 3.7)];
  nn.add(root, nn.row(tables[0], sign("×"), tables[1], sign("="), tables[2]));
  nn.add(root, nn.row(element("div", {}, "Sum at ", position), verdict));
  nn.add(root, nn.row(choice, nn.button("Slide over all", slideOverAll), nn.button("Empty the output", empty)));
  fillIn();
  seen.fill(1, 0, row * Wo + column); // as if it had come here from the upper left
  nn.draw(show);
});
