// Pull at the logits of one sample; watch the probabilities, the loss and its gradient.

nn.figure((root, { logits: first, label: truth, names, reach }) => {
  const { element } = nn;
  let label = truth;
  let logits = [...first];
  const loss = nn.output("loss");
  const asWritten = nn.output("loss as written");
  const sumAsWritten = nn.output("sum as written");

  // The log of softmax as the text derives it: subtract the largest, then nothing can overflow.
  function logSoftmax(z) {
    const shifted = z.map((value) => value - Math.max(...z));
    const logSum = Math.log(shifted.reduce((sum, value) => sum + Math.exp(value), 0));
    return shifted.map((value) => value - logSum);
  }

  // What the sliders add up to: the logits, c added to all, all divided by the temperature.
  const scores = () => logits.map((z) => (z + added.value) / temperature.value);
  // The loss for each logit as it stands on its slider: what is believed, minus what is true.
  function gradient() {
    const p = logSoftmax(scores()).map(Math.exp);
    return p.map((value, k) => (value - (k === label)) / temperature.value);
  }

  const rows = names.map((name, k) => {
    const slider = nn.slider({
      label: name, min: -reach, max: reach, step: 0.1, value: logits[k],
      format: () => logits[k].toFixed(2), // between two places of the slider too, after a step downhill
      oninput(value) {
        logits[k] = value;
        slider.value = value;
        show();
      },
    });
    const bar = nn.bar(`probability of ${name}`, (p) => p.toFixed(4));
    const dz = nn.output(`gradient of ${name}`);
    dz.element.setAttribute("aria-live", "off"); // only the loss is read out
    const texts = [element("span", {}, "p ", bar.number), element("span", {}, "dz ", dz)];
    const results = element("div", {}, bar, ...texts);
    bar.element.style.height = "1.1rem";
    results.style.cssText = "display: grid; grid-template-columns: 1fr auto auto; gap: 0.75rem; align-items: center";
    results.style.flex = "1 1 18rem";
    for (const text of texts) text.style.cssText = "white-space: nowrap; text-align: right";
    dz.element.style.cssText = "display: inline-block; width: 4.7rem";
    return { slider, bar, dz, line: nn.row(slider, results) };
  });

  function show() {
    const z = scores();
    const logP = logSoftmax(z);
    const dz = gradient();
    rows.forEach((row, k) => {
      row.bar.show(Math.exp(logP[k]), k === label ? "warm" : "cool");
      row.dz.text = nn.signed(dz[k], 4);
      row.line.style.fontWeight = k === label ? "bold" : "normal";
    });
    loss.text = (-logP[label] + 0).toFixed(4); // + 0: never "-0.0000"
    const sum = z.reduce((total, value) => total + Math.exp(value), 0);
    sumAsWritten.text = sum >= 1e6 || sum < 1e-3 ? sum.toExponential(2) : sum.toFixed(4);
    asWritten.text = (-Math.log(Math.exp(z[label]) / sum) + 0).toFixed(4);
    const broken = asWritten.text !== loss.text;
    asWritten.element.style.cssText = broken ? "color: var(--warm); font-weight: bold" : "";
  }
  function put(next) {
    logits = next.map((z) => nn.clamp(z, -reach, reach));
    rows.forEach(({ slider }, k) => (slider.value = logits[k]));
    show();
  }
  function startAgain() {
    [added.value, temperature.value, label] = [0, 1, truth];
    choice.value = names[label];
    put(first);
  }

  const added = nn.slider({ label: "add to all: c", min: -1000, max: 1000, step: 10, value: 0, oninput: show });
  const temperature = nn.slider({ label: "divide all by: τ", min: 0.1, max: 5, step: 0.1, value: 1, oninput: show });
  const choice = nn.choice("true class", names, (name) => {
    label = names.indexOf(name);
    show();
  });
  choice.value = names[label];
  const downhill = nn.button("One step downhill", () => {
    const dz = gradient();
    put(logits.map((z, k) => z - dz[k])); // a step as long as the gradient
  });
  for (const { line } of rows) { // so that the sliders stand below each other
    line.querySelector("label").style.minWidth = "4rem";
    line.querySelector(".slider output").style.cssText = "min-width: 3rem; text-align: right";
  }

  const verdict = element("div", {}, "Loss ", loss, " nats");
  verdict.style.cssText = "font-size: 1.25rem; font-weight: bold";
  const naive = element("small", {}, "Computed as it is written: Σ exp = ", sumAsWritten, ", loss ", asWritten);
  nn.add(root, ...rows.map(({ line }) => line), nn.row(verdict, naive));
  nn.add(root, nn.row(choice, downhill, nn.button("Start again", startAgain)), nn.row(added, temperature));
  show();
});
