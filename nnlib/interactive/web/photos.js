// What the figures on photographs share: networks that are asked about pictures, and bars for what they answer.
// A picture is a Float32Array of values in 0..1, row by row, the colours of a pixel side by side.

const Photos = (() => {
  const { element } = nn;

  // What Python wrote of a network -> ask(pictures, count): `count` pictures in one array -> logits, an array for each.
  function network({ network, gain, offset, shape }) {
    const net = Net.load(network);
    const C = gain.length;
    return (pictures, count = 1) => {
      const prepared = pictures.map((value, i) => gain[i % C] * value + offset[i % C]);
      const { data, shape: [, K] } = net.forward(prepared, [count, ...shape]);
      return Array.from({ length: count }, (_, n) => data.slice(n * K, (n + 1) * K));
    };
  }

  // Levels 0..255 -> values 0..1, as nnlib makes them.
  const floats = (levels) => nn.shaped(Float32Array.from(levels, (level) => level / 255), ...levels.shape);

  // The texts by which one chooses a picture.
  const captions = (labels, names) => labels.map((label, k) => `${k + 1}: ${names[label]}`);

  function show(canvas, picture) {
    nn.pixels(canvas, picture, { width: canvas.width, height: canvas.height, low: 0, high: 1 });
  }

  // A table with a line for each class and a column for each network: update([probabilities, ...], true class).
  function answers(classes, networks) {
    const columns = `minmax(4rem, 6rem) repeat(${networks.length}, minmax(0, 1fr))`;
    const style = `display: grid; grid-template-columns: ${columns}; gap: 0 0.75rem; align-items: center`;
    const heads = networks.map((name) => {
      const said = nn.output(`${name} says`);
      said.element.style.fontWeight = "bold";
      return said;
    });
    const lines = classes.map((label) => {
      const cells = networks.map((name) => cell(`${name}: ${label}`));
      const line = element("div", { style }, element("span", {}, label), ...cells);
      return { cells, line };
    });
    const title = (name) => element("small", {}, `${name} says`);
    const named = (name, k) => element("div", {}, title(name), element("br"), heads[k]);
    const head = element("div", { style }, element("span"), ...networks.map(named));
    const table = nn.column(head, ...lines.map(({ line }) => line));
    table.style.gap = "0.15rem";
    function update(probabilities, truth) {
      probabilities.forEach((p, n) => {
        const best = nn.argmax(p);
        const right = best === truth;
        heads[n].text = `${classes[best]} ${right ? "✓" : "✗"}`;
        heads[n].element.style.color = right ? "var(--cool)" : "var(--warm)";
        lines.forEach(({ cells, line }, k) => {
          cells[n].show(p[k], k === best ? "accent" : "muted");
          line.firstChild.style.fontWeight = k === truth ? "bold" : "normal"; // the true class
        });
      });
    }
    return { element: table, update };
  }

  function cell(name) {
    const bar = nn.bar(name);
    bar.number.element.style.cssText = "text-align: right; white-space: nowrap; font-size: 0.875rem";
    const style = "display: grid; grid-template-columns: minmax(0, 1fr) 3.6rem; gap: 0.3rem; align-items: center";
    return { element: element("div", { style }, bar, bar.number), show: bar.show };
  }

  return { network, floats, captions, show, answers };
})();
