"""The same training without crown_exp."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from parts import CNN, digits, first_step_done
from torch.utils.data import DataLoader


def main(batch_size: int = 64, steps: int = 1) -> None:
    """Minimise the cross-entropy for a step."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    net = CNN(width=16)
    opt = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(opt, T_max=steps)
    losses = []
    for _, (images, labels) in zip(
        range(steps), DataLoader(digits(), batch_size, shuffle=True, drop_last=True), strict=False
    ):
        loss = F.cross_entropy(net(images), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        opt.step()
        opt.zero_grad()
        schedule.step()
        losses.append(loss.item())
        first_step_done()


main()
