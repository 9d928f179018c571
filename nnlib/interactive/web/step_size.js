// A picture, a small step for each pixel, and their sum: what does the network say? nnlib.interactive.step_size.

nn.figure((root, { network, images, directions, labels, class_names, levels, chances, answers }) => {
  const pictures = Photos.list(images);
  const ways = Photos.list(directions).map((both) => split(both)); // [picture][0: against the answer, 1: at random]
  const curves = Photos.list(chances).map((both) => split(both));
  const winners = Photos.list(answers).map((both) => split(both));
  const ask = Photos.network(network);
  const captions = Photos.captions(labels, class_names);
  const WAYS = ["against the right answer", "at random"];
  const [H, W] = pictures[0].shape;
  const table = Photos.answers(class_names, ["network"]);
  const views = ["The picture", "The change", "Their sum"].map((text) => nn.canvas(200, (200 * H) / W, text));
  const plot = nn.canvas(340, 220, "The probability of the true class over the step, in both directions");
  const size = nn.element("span");

  const chosen = nn.choice("Picture", captions, show);
  const way = nn.choice("Direction", WAYS, show);
  const last = levels.length - 1;
  const step = nn.slider({ label: "step", min: 0, max: last, format: (j) => `± ${levels[j]} levels`, oninput: show });
  const turn = nn.output("the answer changes at");

  // An array (2, ...) -> its two halves.
  function split(both) {
    const half = both.length / 2;
    return [0, 1].map((k) => Object.assign(both.subarray(k * half, (k + 1) * half), { shape: both.shape.slice(1) }));
  }

  function show() {
    const [k, d, j] = [captions.indexOf(chosen.value), WAYS.indexOf(way.value), step.value];
    const picture = Photos.floats(pictures[k]);
    const epsilon = Math.fround(levels[j] / 255);
    const direction = ways[k][d];
    const clipped = picture.map((value, i) => Math.min(1, Math.max(0, Math.fround(value + epsilon * direction[i]))));
    const sum = Object.assign(clipped, { shape: picture.shape });
    const large = Object.assign(Float32Array.from(direction, (sign) => 0.5 + 0.5 * sign), { shape: picture.shape });
    [picture, large, sum].forEach((values, v) => Photos.show(views[v], values));
    const probabilities = Net.softmax(ask(sum)[0]);
    table.update([probabilities], labels[k]);
    const first = winners[k][d].findIndex((winner) => winner !== winners[k][d][0]);
    turn.text = first < 0 ? `no step up to ± ${levels[last]} levels` : `± ${levels[first]} levels`;
    size.textContent = `now each pixel moves by ${(levels[j] / 255).toFixed(4)} of the way from black to white`;
    draw(k, d, j, first);
  }

  // Both curves, the one that is chosen in full strength; where the answer changes, and where the slider is.
  function draw(k, d, j, first) {
    const { ctx, width, height } = plot;
    const { text, muted, grid, warm, cool } = nn.colours();
    const [left, right, top, bottom] = [50, width - 12, 12, height - 40];
    const x = (index) => left + ((right - left) * index) / last;
    const y = (share) => bottom - (bottom - top) * share;
    const line = (from, to, colour, dash = [], thick = 1) => {
      ctx.beginPath();
      ctx.setLineDash(dash);
      ctx.moveTo(...from);
      ctx.lineTo(...to);
      Object.assign(ctx, { strokeStyle: colour, lineWidth: thick });
      ctx.stroke();
    };
    const write = (words, at, align, colour = muted) => {
      Object.assign(ctx, { textAlign: align, fillStyle: colour });
      ctx.fillText(words, ...at);
    };
    ctx.clearRect(0, 0, width, height);
    for (const share of [0, 0.5, 1]) {
      line([left, y(share)], [right, y(share)], grid);
      write(`${100 * share} %`, [left - 6, y(share) + 4], "right");
    }
    for (const part of [0, 0.25, 0.5, 0.75, 1]) write(levels[part * last], [x(part * last), bottom + 16], "center");
    write("step in levels of 255", [(left + right) / 2, bottom + 34], "center");
    [1, 0].forEach((which) => {
      const curve = curves[k][which];
      const colour = [warm, cool][which];
      for (let i = 0; i < last; i++) {
        if (which && i % 2) continue; // a broken line: told apart without its colour
        line([x(i), y(curve[i])], [x(i + 1), y(curve[i + 1])], colour, [], which === d ? 3 : 1.5);
      }
    });
    if (first >= 0) line([x(first), top], [x(first), bottom], text, [2, 4]);
    ctx.setLineDash([]);
    ctx.beginPath();
    ctx.arc(x(j), y(curves[k][d][j]), 6, 0, 7);
    ctx.fillStyle = text;
    ctx.fill();
  }

  const triptych = nn.element("div");
  triptych.style.cssText = "display: grid; grid-template-columns: repeat(3, minmax(0, 1fr)); gap: 0.75rem";
  const texts = ["the picture", "the change, enlarged", "what the network sees"];
  nn.add(triptych, ...views.map((view, v) => Photos.captioned(view, texts[v])));
  const legend = "Probability of the true class: full line against the answer, broken line at random.";
  const left = nn.column(plot, nn.element("small", {}, legend));
  const lower = nn.row(left, table);
  lower.classList.add("top");
  const line = nn.element("p", {}, "The answer changes at ", turn.element, "; ", size, ".");
  nn.add(root, nn.row(chosen, way), triptych, nn.row(step), line, lower);
  nn.draw(show);
});
