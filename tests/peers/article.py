"""The network of the article that this project began with, written plainly from its description, as a peer to compare.

Base 64, multipliers 1, 2, 4, 4, attention at the heights 16 and 8 of a 32x32 image, GroupNorm of 8 groups, Dropout2d,
``nn.MultiheadAttention`` of 4 heads, sinusoids looked up in a frozen embedding.
"""

import torch
from torch import Tensor, nn

BASE, MULTIPLIERS, ATTENDS, BLOCKS, TIME = 64, (1, 2, 4, 4), (False, True, True, False), 2, 256


class TimeEmbedding(nn.Module):
    def __init__(self, T: int = 1000):
        super().__init__()
        exponent = torch.arange(BASE // 2) / (BASE // 2 - 1)
        angle = torch.arange(T)[:, None] / 10_000**exponent
        self.sinusoids = nn.Embedding.from_pretrained(torch.cat([angle.sin(), angle.cos()], dim=1))
        self.layers = nn.Sequential(nn.Linear(BASE, TIME), nn.SiLU(), nn.Linear(TIME, TIME))

    def forward(self, t: Tensor) -> Tensor:
        return self.layers(self.sinusoids(t))


class Attention(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.norm = nn.GroupNorm(8, channels)
        self.attention = nn.MultiheadAttention(channels, 4, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.norm(x).reshape(*x.shape[:2], -1).permute(0, 2, 1)
        mixed, _ = self.attention(tokens, tokens, tokens)
        return x + mixed.permute(0, 2, 1).reshape(x.shape)


class ResidualBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, attends: bool):
        super().__init__()
        self.first = nn.Sequential(nn.GroupNorm(8, inputs), nn.SiLU(), nn.Conv2d(inputs, outputs, 3, padding=1))
        self.time = nn.Sequential(nn.SiLU(), nn.Linear(TIME, outputs))
        self.second = nn.Sequential(
            nn.GroupNorm(8, outputs), nn.SiLU(), nn.Dropout2d(0.1), nn.Conv2d(outputs, outputs, 3, padding=1)
        )
        self.match = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        self.attention = Attention(outputs) if attends else nn.Identity()

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        h = self.first(x) + self.time(time)[:, :, None, None]
        return self.attention(self.second(h) + self.match(x))


class ArticleUNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.time = TimeEmbedding()
        self.first = nn.Conv2d(3, BASE, 3, padding=1)
        widths = [BASE * multiplier for multiplier in MULTIPLIERS]
        self.encoder = nn.ModuleList()
        width, kept = BASE, [BASE]
        for level, channels in enumerate(widths):
            for _ in range(BLOCKS):
                self.encoder.append(ResidualBlock(width, channels, ATTENDS[level]))
                width = channels
                kept.append(width)
            if level < 3:
                self.encoder.append(nn.Conv2d(width, width, 3, stride=2, padding=1))
                kept.append(width)
        self.bottleneck = nn.ModuleList([ResidualBlock(width, width, True), ResidualBlock(width, width, False)])
        self.decoder = nn.ModuleList()
        for level in (3, 2, 1, 0):
            for _ in range(BLOCKS + 1):
                self.decoder.append(ResidualBlock(kept.pop() + width, widths[level], ATTENDS[level]))
                width = widths[level]
            if level > 0:
                self.decoder.append(nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(width, width, 3, padding=1)))
        self.last = nn.Sequential(nn.GroupNorm(8, BASE), nn.SiLU(), nn.Conv2d(BASE, 3, 3, padding=1))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        time = self.time(t)
        h = self.first(x)
        kept = [h]
        for layer in self.encoder:
            h = layer(h, time) if isinstance(layer, ResidualBlock) else layer(h)
            kept.append(h)
        for layer in self.bottleneck:
            h = layer(h, time)
        for layer in self.decoder:
            h = layer(torch.cat([h, kept.pop()], dim=1), time) if isinstance(layer, ResidualBlock) else layer(h)
        return self.last(h)
