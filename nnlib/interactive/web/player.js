// A slider over pictures that Python drew: nnlib.interactive.player.
nn.figure((root, { frames, labels, label, start, alt, pixelated }) => {
  const player = nn.player({ frames, labels, label, value: start, alt });
  if (pixelated) player.element.querySelector("img").classList.add("pixelated");
  nn.add(root, player);
});
