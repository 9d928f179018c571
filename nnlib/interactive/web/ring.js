// A ring of workers adds up their gradients: whose gradients are in which chunk of whom, step by step.

nn.figure((root, { rings, workers: first }) => {
  const HALF = 300; // of the canvas's height goes to the chunks
  const canvas = nn.canvas(700, HALF + 40, "Each worker's chunks, and whose gradients are in them.");
  const facts = { sent: nn.output("sent by each"), server: nn.output("sent by a server"), done: nn.output("sums complete") };
  const place = nn.element("div");
  const choice = nn.choice("workers", Object.keys(rings), build);
  choice.value = String(first);
  let steps, player;

  function build() {
    steps = rings[choice.value];
    const last = steps.length - 1;
    const told = (i) => (i === 0 ? "at first" : `${i} of ${last}: ${i <= last / 2 ? "add" : "copy"}`);
    player = nn.player({ labels: steps.map((_, i) => told(i)), label: "step", value: 0, show });
    place.replaceChildren(player.element);
    show(0);
  }

  function show(i) {
    const { ctx, width } = canvas;
    const { text, grid, control, warm, series } = nn.colours();
    const count = Number(choice.value);
    const [wide, high] = [width / count, HALF / count];
    ctx.clearRect(0, 0, width, canvas.height);
    Object.assign(ctx, { textAlign: "center", textBaseline: "middle" });
    steps[i].holds.forEach((chunks, worker) => chunks.forEach((those, chunk) => {
      const [x, y] = [worker * wide, chunk * high];
      const came = steps[i].sends.some(([from, which]) => (from + 1) % count === worker && which === chunk);
      ctx.fillStyle = those.length === count ? control : "transparent";
      ctx.fillRect(x + 14, y + 3, wide - 28, high - 6);
      Object.assign(ctx, { strokeStyle: came ? warm : grid, lineWidth: came ? 3 : 1 });
      ctx.strokeRect(x + 14, y + 3, wide - 28, high - 6);
      const bar = (wide - 44) / count;
      for (const who of those) {
        ctx.fillStyle = series[who];
        ctx.fillRect(x + 22 + who * bar + bar * 0.1, y + 9, bar * 0.8, high - 18);
      }
      if (came) { // from the left, or from the far end
        ctx.fillStyle = warm;
        ctx.beginPath();
        for (const [dx, dy] of [[1, -7], [13, 0], [1, 7]]) ctx.lineTo(x + dx, y + high / 2 + dy);
        ctx.fill();
      }
    }));
    for (let worker = 0; worker < count; worker++) {
      ctx.fillStyle = series[worker];
      ctx.fillRect(worker * wide + wide / 2 - 44, HALF + 12, 12, 12);
      ctx.fillStyle = text;
      ctx.fillText(`worker ${worker + 1}`, worker * wide + wide / 2 + 2, HALF + 19);
    }
    facts.sent.text = `${i} / ${count} = ${(i / count).toFixed(2)} gradients`;
    facts.server.text = `${2 * (count - 1)} gradients, in and out`;
    const done = steps[i].holds.flat().filter((those) => those.length === count).length;
    facts.done.text = `${done} of ${count * count}`;
  }

  const line = (words, output) => nn.element("span", {}, `${words}: `, output.element);
  nn.add(root, nn.row(choice, place), canvas, nn.row(line("sent by each so far", facts.sent),
    line("one server would send and receive", facts.server), line("sums complete", facts.done)));
  nn.draw(() => (player ? show(player.value) : build()));
});
