const tip = document.createElement('div');
tip.id = 'tip';
document.body.append(tip);
let pinned = null;
const show = dot => {
  tip.textContent = dot.dataset.tip + (pinned === dot ? '' : '\n(click: keep this open)');
  tip.style.display = 'block';
  const at = dot.getBoundingClientRect();
  const left = Math.max(4, Math.min(at.left + 14, document.documentElement.clientWidth - tip.offsetWidth - 8));
  const below = at.bottom + 8;
  const top = below + tip.offsetHeight > innerHeight && at.top > tip.offsetHeight + 8 ? at.top - tip.offsetHeight - 8 : below;
  tip.style.left = left + scrollX + 'px';
  tip.style.top = top + scrollY + 'px';
};
const hide = () => { pinned = null; tip.style.display = 'none'; };
for (const dot of document.querySelectorAll('.dot')) {
  dot.addEventListener('mouseenter', () => pinned || show(dot));
  dot.addEventListener('mouseleave', () => pinned || hide());
  dot.addEventListener('focus', () => pinned || show(dot));
  dot.addEventListener('blur', () => pinned || hide());
  dot.addEventListener('click', event => { event.stopPropagation(); pinned = pinned === dot ? null : dot; show(dot); });
}
document.addEventListener('click', event => { if (!tip.contains(event.target)) hide(); });
document.addEventListener('keydown', event => { if (event.key === 'Escape') hide(); });
