// A picture, a small step for each pixel, and their sum: what does the network say? nnlib.interactive.step_size.

nn.figure((root, { network, images, directions, labels, class_names, levels, chances, answers }) => {
  const pictures = nn.list(nn.array(images));
  const twice = (encoded) => nn.list(nn.array(encoded)).map(nn.list); // [picture][0: against the answer, 1: at random]
  const [ways, curves, winners] = [directions, chances, answers].map(twice);
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

  function show() {
    const [k, d, j] = [captions.indexOf(chosen.value), WAYS.indexOf(way.value), step.value];
    const picture = Photos.floats(pictures[k]);
    const epsilon = Math.fround(levels[j] / 255);
    const direction = ways[k][d];
    const stepped = picture.map((value, i) => nn.clamp(Math.fround(value + epsilon * direction[i]), 0, 1));
    const sum = nn.shaped(stepped, ...picture.shape);
    const large = nn.shaped(Float32Array.from(direction, (sign) => 0.5 + 0.5 * sign), ...picture.shape);
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
    const { ctx } = plot;
    const { text, warm, cool } = nn.colours();
    const box = { x: 50, y: 12, width: 278, height: 168 };
    const x = (index) => box.x + (box.width * index) / last;
    const y = (share) => box.y + box.height * (1 - share);
    nn.axes(plot, box, {
      rows: [0, 0.5, 1].map((share) => [`${100 * share} %`, y(share)]),
      columns: [0, 0.25, 0.5, 0.75, 1].map((part) => [levels[part * last], x(part * last)]),
      label: "step in levels of 255",
    });
    [1, 0].forEach((which) => {
      const curve = curves[k][which];
      const style = { strokeStyle: [warm, cool][which], lineWidth: which === d ? 3 : 1.5 };
      for (let i = 0; i < last; i++) {
        if (which && i % 2) continue; // a broken line: told apart without its colour
        nn.line(ctx, [[x(i), y(curve[i])], [x(i + 1), y(curve[i + 1])]], style);
      }
    });
    const turned = { strokeStyle: text, lineWidth: 1, dash: [2, 4] };
    if (first >= 0) nn.line(ctx, [[x(first), y(1)], [x(first), y(0)]], turned);
    ctx.beginPath();
    ctx.arc(x(j), y(curves[k][d][j]), 6, 0, 7);
    ctx.fillStyle = text;
    ctx.fill();
  }

  const triptych = nn.element("div");
  triptych.style.cssText = "display: grid; grid-template-columns: repeat(3, minmax(0, 1fr)); gap: 0.75rem";
  const texts = ["the picture", "the change, enlarged", "what the network sees"];
  nn.add(triptych, ...views.map((view, v) => nn.captioned(view, texts[v])));
  const legend = "Probability of the true class: full line against the answer, broken line at random.";
  const left = nn.column(plot, nn.element("small", {}, legend));
  const line = nn.element("p", {}, "The answer changes at ", turn, "; ", size, ".");
  nn.add(root, nn.row(chosen, way), triptych, nn.row(step), line, nn.top(left, table));
  nn.draw(show);
});
