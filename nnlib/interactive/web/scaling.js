// The clock of a step with many workers: to compute is shared out, to talk is not. A server, or a ring.

nn.figure((root, data) => {
  const { counts } = data;
  const box = { x: 46, y: 10, width: 620, height: 240 };
  const canvas = nn.canvas(690, 300, "Speed-up against workers. Click a number of workers, or use the arrow keys.");
  const TOP = 1000;

  // The same model as nnlib.interactive.workers.talking: seconds in which the gradients are added up and handed back.
  const talk = {
    server: (w, { size, bandwidth, latency }) => (w > 1 ? 2 * (latency + (w - 1) * size / bandwidth) : 0),
    ring: (w, { size, bandwidth, latency }) => 2 * (w - 1) * (latency + size / w / bandwidth),
  };

  // Sliders in tenths of a power of ten.
  const power = (tenths) => 10 ** (tenths / 10);
  const short = (value) => (value >= 100 ? Math.round(value).toLocaleString("en") : String(Number(value.toPrecision(2))));
  const slider = (label, min, max, value, format) => nn.slider({ label, min, max, value, format, oninput: show });
  const workers = slider("workers", 0, counts.length - 1, data.workers, (i) => counts[i].toLocaleString("en"));
  const line = slider("line (Gbit/s)", -10, 20, data.gigabits, (i) => short(power(i)));
  const latency = slider("latency (ms)", -60, -20, data.latency, (i) => short(1000 * power(i)));
  const network = slider("weights (millions)", 30, 90, data.parameters, (i) => short(power(i) / 1e6));
  const alone = slider("one worker's step (ms)", -30, 20, data.seconds, (i) => short(1000 * power(i)));

  const setting = () => ({
    size: 4 * power(network.value), bandwidth: power(line.value) * 1e9 / 8, latency: power(latency.value),
    seconds: power(alone.value),
  });
  const speedUp = (scheme, w, now) => now.seconds / (now.seconds / w + talk[scheme](w, now));

  nn.drag(canvas, {
    onpoint: ({ x }) => choose(counts.map((w) => Math.abs(across(w) - x))),
    onarrow: (dx, dy) => { workers.value += dx - dy; show(); },
  });
  function choose(distances) {
    workers.value = distances.indexOf(Math.min(...distances));
    show();
  }
  const across = (w) => box.x + (Math.log10(w) / 3) * box.width;
  const up = (s) => box.y + box.height * (1 - (Math.log10(Math.max(s, 0.1)) + 1) / (Math.log10(TOP) + 1));

  function drawChart(now) {
    const { ctx } = canvas;
    const { text, accent, warm, cool } = nn.colours();
    const rows = [0.1, 1, 10, 100, 1000].map((s) => [String(s), up(s)]);
    const columns = [1, 10, 100, 1000].map((w) => [String(w), across(w)]);
    nn.axes(canvas, box, { rows, columns, label: "workers; upwards, the speed-up" });
    nn.line(ctx, counts.map((w) => [across(w), up(w)]), { strokeStyle: text, lineWidth: 1, dash: [2, 4] });
    const chosen = counts[workers.value];
    const at = across(chosen);
    nn.line(ctx, [[at, box.y], [at, box.y + box.height]], { strokeStyle: accent, lineWidth: 2 });
    for (const [scheme, colour, dash] of [["server", cool, [6, 4]], ["ring", warm, []]]) {
      const points = counts.map((w) => [across(w), up(speedUp(scheme, w, now))]);
      nn.line(ctx, points, { strokeStyle: colour, lineWidth: 2.5, dash });
      ctx.fillStyle = colour;
      ctx.beginPath(); // a square on the server's curve, a disc on the ring's: not told apart by colour alone
      const [x, y] = [across(chosen), up(speedUp(scheme, chosen, now))];
      if (scheme === "ring") ctx.arc(x, y, 5, 0, 2 * Math.PI);
      else ctx.rect(x - 5, y - 5, 10, 10);
      ctx.fill();
    }
  }

  const cell = (tag, ...inside) => nn.element(tag, {}, ...inside);
  const lines = [["■", "cool", "server"], ["●", "warm", "ring"]].map(([mark, colour, scheme]) => {
    const outputs = ["talk", "speed-up", "best"].map((what) => nn.output(`${scheme}: ${what}`));
    const sign = nn.element("span", { style: `color: var(--${colour})` }, mark);
    const name = nn.element("th", { style: "text-align: left" }, sign, ` ${scheme}`);
    return { scheme, outputs, element: cell("tr", name, ...outputs.map(({ element }) => cell("td", element))) };
  });

  const compute = nn.output("compute");
  function show() {
    const [now, w] = [setting(), counts[workers.value]];
    for (const { scheme, outputs } of lines) {
      const speeds = counts.map((count) => speedUp(scheme, count, now));
      const best = speeds.indexOf(Math.max(...speeds));
      const milliseconds = (seconds) => `${(1000 * seconds).toPrecision(4)} ms`;
      [milliseconds(talk[scheme](w, now)), speedUp(scheme, w, now).toPrecision(4),
        `${speeds[best].toPrecision(4)} with ${counts[best]}`].forEach((text, i) => { outputs[i].text = text; });
      compute.text = milliseconds(now.seconds / w);
    }
    drawChart(now);
  }

  const head = cell("tr", cell("td"), ...["talking", "speed-up", "at best"].map((name) => cell("th", name)));
  const legend = cell("small", "Each worker computes for ", compute.element, ". Dotted: perfect sharing.");
  nn.add(root, canvas, nn.row(workers, line, latency, network, alone), cell("table", head, ...lines), legend);
  nn.draw(show);
});
