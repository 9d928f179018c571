// Two trainings that should be one: both losses at a step, digit by digit, and how far apart they are at every step.

nn.figure((root, { pairs, bound }) => {
  const runs = pairs.map(({ losses, ...pair }) => {
    const [first, second] = losses.map(nn.array);
    return { ...pair, first, second, gaps: Array.from(first, (loss, k) => Math.abs(loss - second[k])) };
  });
  let run = runs[0]; // what is shown,
  let k = 0; // at which step, counted from 0,
  let player = null; // which its slider chooses

  const choice = nn.choice("compare", runs.map(({ name }) => name), (name) => { choose(name); show(); });
  const losses = nn.canvas(344, 230, "The losses of both trainings. Click a step, or move by the arrow keys.");
  const differences = nn.canvas(344, 230, "Their difference. Click a step, or move by the arrow keys.");
  const box = { x: 44, y: 12, width: 284, height: 174 };
  const last = () => run.gaps.length - 1;
  const across = (i) => box.x + (i / last()) * box.width;
  for (const canvas of [losses, differences]) {
    nn.drag(canvas, {
      onpoint: ({ x }) => { player.value = Math.round(((x - box.x) / box.width) * last()); },
      onarrow: (dx, dy) => { player.value += dx - dy; },
    });
  }

  // ------------------------------------------------------------------------------------------------------ the digits

  const numbers = ["first", "second"].map((which) => (
    { which, name: nn.element("th"), output: nn.output(`${which} loss`) }
  ));
  const difference = nn.output("difference");
  const parted = nn.output("parted");

  function showDigits() {
    const texts = numbers.map(({ which }) => run[which][k].toPrecision(run.digits));
    let same = 0;
    while (same < texts[0].length && texts[0][same] === texts[1][same]) same++;
    numbers.forEach(({ name, output }, i) => {
      name.textContent = run.names[i];
      const rest = nn.element("u", { style: "color: var(--warm); font-weight: bold" }, texts[i].slice(same));
      output.element.replaceChildren(texts[i].slice(0, same), rest);
    });
    difference.text = run.gaps[k] === 0 ? "0" : run.gaps[k].toExponential(2);
    const first = run.gaps.findIndex((gap) => gap > bound);
    parted.text = first < 0 ? "at no step" : `first at step ${first + 1}`;
  }

  // ------------------------------------------------------------------------------------------------------ the curves

  // The axes of a chart, and a line at the step shown.
  function axes(canvas, rows, label) {
    const columns = [0, Math.round(last() / 2), last()].map((i) => [i + 1, across(i)]);
    nn.axes(canvas, box, { rows, columns, label });
    const style = { strokeStyle: nn.colours().accent, lineWidth: 2 };
    nn.line(canvas.ctx, [[across(k), box.y], [across(k), box.y + box.height]], style);
  }

  function drawLosses() {
    const { text, warm } = nn.colours();
    const most = Math.max(...run.first, ...run.second);
    const up = (loss) => box.y + box.height * (1 - loss / (most || 1));
    const power = Math.floor(Math.log10(most || 1));
    const ticks = Array.from({ length: Math.floor(most / 10 ** power) + 1 }, (_, i) => i * 10 ** power);
    axes(losses, ticks.map((loss) => [loss.toFixed(Math.max(0, -power)), up(loss)]), "step; the loss of both (nats)");
    for (const [values, strokeStyle, lineWidth] of [[run.second, warm, 5], [run.first, text, 1.5]]) {
      nn.line(losses.ctx, Array.from(values, (loss, i) => [across(i), up(loss)]), { strokeStyle, lineWidth });
    }
  }

  const all = runs.flatMap(({ gaps }) => gaps).filter((gap) => gap > 0);
  const [low, high] = [Math.min(bound, ...all), Math.max(bound, ...all)].map(Math.log10);
  const bottom = Math.floor(low) - 1; // one power of ten for differences of exactly 0
  const top = Math.max(Math.ceil(high), bottom + 2);

  function drawDifferences() {
    const { text, warm } = nn.colours();
    const { ctx } = differences;
    const up = (power) => box.y + box.height * (1 - (power - bottom) / (top - bottom));
    const powers = Array.from({ length: Math.floor((top - bottom - 1) / 3) + 1 }, (_, i) => top - 3 * i);
    const ticks = powers.map((power) => [`1e${power}`, up(power)]);
    axes(differences, [...ticks, ["0", up(bottom)]], "step; their difference (nats)");
    const height = up(Math.log10(bound));
    nn.line(ctx, [[box.x, height], [box.x + box.width, height]], { strokeStyle: text, lineWidth: 2, dash: [2, 4] });
    ctx.fillStyle = warm;
    run.gaps.forEach((gap, i) => {
      ctx.beginPath();
      ctx.arc(across(i), up(gap > 0 ? Math.log10(gap) : bottom), i === k ? 5 : 2.5, 0, 2 * Math.PI);
      ctx.fill();
    });
  }

  function show() {
    showDigits();
    drawLosses();
    drawDifferences();
  }

  const place = nn.element("div"); // of the slider: each pair has as many steps as it has
  function choose(chosen) {
    run = runs.find(({ name }) => name === chosen);
    const labels = run.gaps.map((_, i) => String(i + 1));
    k = Math.min(9, last());
    player = nn.player({ label: "step", labels, value: k, show: (i) => { k = i; show(); } });
    place.replaceChildren(player.element);
  }

  choose(run.name);
  const cell = (tag, ...inside) => nn.element(tag, {}, ...inside);
  const lines = numbers.map(({ name, output }) => cell("tr", name, cell("td", output)));
  const table = cell("table", ...lines, cell("tr", cell("th", "difference"), cell("td", difference)),
    cell("tr", cell("th", `more than ${bound} apart`), cell("td", parted)));
  const legend = nn.column(cell("small", "Underlined are the digits from the first one that differs. Below, the thin "
    + `line runs inside the wide one; a point at 0 is no difference at all, and the dotted line is ${bound}.`));
  const digits = nn.element("div", { class: "scroll" }, table);
  nn.add(root, choice, place, nn.row(digits, legend), nn.row(losses, differences));
  nn.draw(show);
});
