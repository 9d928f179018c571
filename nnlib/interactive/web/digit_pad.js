// Draw a digit; see what the network sees, and how sure it is of each answer.

nn.figure((root, { network, input_shape, image_shape, labels, examples, note }) => {
  const net = Net.load(network);
  const { element } = nn;
  const answer = nn.output("answer");
  const seen = nn.canvas(140, 140, "What the network sees");
  const bars = labels.map((label) => {
    const bar = element("div");
    const number = nn.output(`probability of ${label}`);
    number.element.setAttribute("aria-live", "off"); // the answer is read out, ten changing numbers are not
    const line = element("div", {}, element("span", {}, label), element("div", {}, bar), number.element);
    return { line, bar, number };
  });
  let picture = null;

  function show() {
    const { accent, cool, grid } = nn.colours();
    seen.ctx.fillStyle = "black";
    seen.ctx.fillRect(0, 0, 140, 140);
    if (picture) nn.pixels(seen, picture, { width: 140, height: 140, low: 0, high: 255 });
    const probabilities = picture && Net.softmax(net.forward(Float32Array.from(picture, (v) => v / 255), input_shape).data);
    const best = picture ? probabilities.indexOf(Math.max(...probabilities)) : -1;
    answer.text = picture ? `${labels[best]}, ${(100 * probabilities[best]).toFixed(0)} % sure` : "draw a digit";
    bars.forEach(({ line, bar, number }, k) => {
      number.text = picture ? `${(100 * probabilities[k]).toFixed(1)} %` : "";
      line.style.fontWeight = k === best ? "bold" : "normal";
      bar.parentElement.style.background = grid;
      bar.style.cssText = `height: 100%; width: ${picture ? 100 * probabilities[k] : 0}%; background: ${k === best ? accent : cool}`;
    });
  }

  const sheet = Pad.sheet({ shape: image_shape, examples, onchange: (next) => { picture = next; show(); } });
  answer.element.style.cssText = "font-size: 1.25rem; font-weight: bold";
  for (const { line, bar } of bars) {
    line.style.cssText = "display: grid; grid-template-columns: minmax(1rem, auto) 1fr 4rem; gap: 0.6rem; align-items: center";
    bar.parentElement.style.cssText = "height: 0.8rem; border-radius: 0.2rem; overflow: hidden";
    line.lastChild.style.textAlign = "right";
  }
  const size = element("small", {}, `What the network sees: ${image_shape[1]} × ${image_shape[0]} pixels, the digit made as large as those it has learnt from.`);
  const view = nn.row(seen, element("div", { class: "column" }, answer.element, size));
  view.lastChild.style.flex = "1 1 8rem";
  const right = nn.column(view, ...bars.map(({ line }) => line));
  const pad = nn.row(sheet, right);
  pad.classList.add("top");
  if (note) nn.add(root, element("p", {}, note));
  nn.add(root, pad);
  nn.draw(show);
});
