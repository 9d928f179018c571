// Back through time, step by step, while the shares of dWh pile up: nnlib.interactive.backward_steps.

nn.figure((root, { rows, runs, axis }) => {
  const SHOWN = 32; // units in the pictures of weights
  const picture = nn.array(rows); // (T, D): what is read
  const [T] = picture.shape;
  const found = Object.fromEntries(runs.map((run) => [run.name, { ...backward(run), nnlibs: run.norm }]));
  const line = Math.max(3, Math.min(10, Math.floor(300 / T))); // the height of a step in the chart
  const chart = nn.canvas(440, T * line + 40, "The sequence, and beside each of its steps the two norms.");
  const maps = ["share of this step", "sum so far"].map((what) => nn.canvas(190, 190, `The ${what} as colours.`));
  const names = ["step", "gradient that reaches it", "share", "sum so far", "dWh", "still missing"];
  const [step, reaches, share, sum, dWh, missing] = names.map((name) => nn.output(name));

  // The backward pass of nnlib.RNN for one sequence, from the last step to the first.
  function backward(run) {
    const [Wh, h] = [nn.array(run.Wh), nn.array(run.h)]; // (H, H), (T, H)
    const H = Wh.shape[0];
    const steps = [];
    let gradient = Float64Array.from(nn.array(run.dh)); // to the last state it comes from above
    for (let t = T - 1; t >= 0; t--) {
      const dz = gradient.map((value, j) => value * (1 - h[t * H + j] ** 2)); // through tanh
      const before = t > 0 ? h.subarray((t - 1) * H, t * H) : new Float32Array(H); // h_0 is 0
      const share = outer(before, dz);
      steps[t] = { reaches: norm(gradient), share, size: norm(share) };
      gradient = gradient.map((_, i) => dz.reduce((carry, value, j) => carry + value * Wh[i * H + j], 0));
    }
    return { steps, total: added(steps) };
  }

  // before^T dz: how much the loss changes with each weight, through this step alone.
  function outer(before, dz) {
    const H = dz.length;
    return nn.shaped(new Float64Array(H * H).map((_, k) => before[Math.floor(k / H)] * dz[k % H]), H, H);
  }

  function added(steps) {
    const sum = new Float64Array(steps[0].share.length);
    for (const { share } of steps) for (let k = 0; k < sum.length; k++) sum[k] += share[k];
    return nn.shaped(sum, ...steps[0].share.shape);
  }

  function norm(values) {
    return Math.sqrt(values.reduce((squares, value) => squares + value * value, 0));
  }

  function written(value) {
    return value === 0 || (value >= 0.01 && value < 1000) ? value.toPrecision(4) : value.toExponential(3);
  }

  function show() {
    const t = T - 1 - player.value;
    const { steps, total, nnlibs } = found[choice.value];
    const soFar = added(steps.slice(t));
    step.text = t + 1;
    reaches.text = written(steps[t].reaches);
    share.text = written(steps[t].size);
    sum.text = written(norm(soFar));
    dWh.text = written(nnlibs);
    missing.text = nn.percent(norm(total.map((value, k) => value - soFar[k])) / norm(total));
    const high = (3 * norm(total)) / Math.sqrt(total.length); // one scale for both
    [steps[t].share, soFar].forEach((values, i) => {
      nn.pixels(maps[i], corner(values), { width: 190, height: 190, low: -high, high, map: "diverging" });
    });
    drawChart(steps, t);
  }

  // The weights between the first units: all of them would be too small to see.
  function corner(values) {
    const H = values.shape[0];
    const side = Math.min(H, SHOWN);
    const some = Float64Array.from({ length: side * side }, (_, k) => values[Math.floor(k / side) * H + (k % side)]);
    return nn.shaped(some, side, side);
  }

  // Each step on a line of its own: its row of the sequence, a bar for its share, a dot for what reaches its state.
  function drawChart(steps, now) {
    const { ctx, width, height } = chart;
    const { muted, grid, warm, series } = nn.colours();
    const [low, high] = axis;
    const left = 150; // here the axis of norms begins
    const place = (value) => left + (width - left - 25) * Math.max(0, (Math.log10(value) - low) / (high - low));
    ctx.clearRect(0, 0, width, height);
    const ink = nn.shaped(picture.map((value) => -value), ...picture.shape);
    nn.pixels(chart, ink, { width: left - 15, height: T * line });
    ctx.textAlign = "center";
    for (let power = low; power <= high; power += 3) {
      ctx.fillStyle = grid;
      ctx.fillRect(place(10 ** power), 0, 1, T * line);
      ctx.fillStyle = muted;
      ctx.fillText(power ? `1e${power}` : "1", place(10 ** power), T * line + 16);
    }
    ctx.fillText("norm", (left + width) / 2, T * line + 34);
    for (let t = now; t < T; t++) {
      ctx.fillStyle = series[0];
      ctx.fillRect(left, t * line + 1, place(steps[t].size) - left, line - 2);
      ctx.fillStyle = series[3];
      ctx.beginPath();
      if (steps[t].reaches > 10 ** low) ctx.arc(place(steps[t].reaches), (t + 0.5) * line, 0.4 * line, 0, 2 * Math.PI);
      ctx.fill();
    }
    [ctx.strokeStyle, ctx.lineWidth] = [warm, 2];
    ctx.strokeRect(1, now * line, width - 2, line);
  }

  const labels = Array.from({ length: T }, (_, i) => String(T - i));
  const choice = nn.choice("network", Object.keys(found), show);
  const said = (...parts) => nn.element("p", {}, ...parts);
  const legend = "The sequence. For each step, a dot: the gradient that reaches its state; a bar: its share of dWh.";
  const left = nn.captioned(chart, legend);
  const shown = `first ${Math.min(SHOWN, found[choice.value].total.shape[0])} units`;
  const pictures = [nn.captioned(maps[0], `This share, ${shown}`), nn.captioned(maps[1], "The sum, same colours")];
  for (const half of pictures) half.style.flex = "1 1 8rem";
  const right = nn.element("div", {}, nn.top(...pictures),
    said("Step ", step, ": the gradient that reaches its state has norm ", reaches, ", its share of dWh ", share, "."),
    said("All shares so far: ", sum, "; nnlib's dWh: ", dWh, ". Still missing: ", missing, "."),
  );
  [left.style.flex, right.style.flex] = ["1 1 20rem", "1 1 15rem"];
  const player = nn.player({ labels, label: "back to step", value: 0, show });
  nn.add(root, nn.row(choice, player), nn.top(left, right));
  nn.draw(show);
});
