"""What papers claim about the questions that studies ask, and what each study does not show. docs/make_atlas.py puts
both on a page."""

from __future__ import annotations

EARLY = (
    "The linear schedule destroys images too early; cosine is better: Nichol, Dhariwal 2021"
    " ([arXiv:2102.09672](https://arxiv.org/abs/2102.09672), section 3.2)"
)
MANIFOLD = (
    "A network should predict clean images, which lie on a manifold of few dimensions, and not noise or v: Li, He 2025"
    " ([arXiv:2511.13720](https://arxiv.org/abs/2511.13720))"
)
STABLE = (
    "v is stable where epsilon is not, because it also says something about the image where noise is all there is:"
    " Salimans, Ho 2022 ([arXiv:2202.00512](https://arxiv.org/abs/2202.00512), section 4)"
)
FLOW = (
    "Rectified flow is better than the usual targets, at least with suitable timesteps: Esser et al. 2024"
    " ([arXiv:2403.03206](https://arxiv.org/abs/2403.03206))"
)
FEW = (
    "Augmentation that does not leak into the drawn images helps the more, the fewer images there are, as GANs then"
    " know them by heart: Karras et al. 2020 ([arXiv:2006.06676](https://arxiv.org/abs/2006.06676))"
)
# study -> published claims with their sources, each with what the study says of it
SAID: dict[str, tuple[tuple[str, str], ...]] = {
    "schedule": (
        (EARLY, "agrees for 16 pixels"),
        (
            "Which schedule is best depends on the size of the images; a sigmoid can be better than cosine: Chen 2023"
            " ([arXiv:2301.10972](https://arxiv.org/abs/2301.10972)), Jabri et al. 2022"
            " ([arXiv:2212.11972](https://arxiv.org/abs/2212.11972))",
            "agrees for 16 pixels",
        ),
    ),
    "parameterization": (
        (
            "Predicting x0 made worse samples than predicting epsilon, early in their experiments: Ho et al. 2020"
            " ([arXiv:2006.11239](https://arxiv.org/abs/2006.11239), section 3.2)",
            "does not agree: both are better than v, and x0 is not behind epsilon",
        ),
    ),
    "targets": (
        (STABLE, "fits: epsilon's error is far above v's at the highest noise"),
        (
            FLOW,
            "agrees where v is the other target, even with uniform timesteps",
        ),
    ),
    "edm": (
        (
            "Heun's sampler, preconditioning, a new weighting and a new density of noise levels together improve FID on"
            " CIFAR-10: Karras et al. 2022 ([arXiv:2206.00364](https://arxiv.org/abs/2206.00364), table 2)",
            "open for the whole; two of its steps make it worse on the way",
        ),
    ),
    "mnist": (
        (EARLY, "agrees for 28 pixels"),
        (MANIFOLD, "agrees by the samples; as a likelihood model x0 is useless"),
    ),
    "mnist_targets": (
        (
            FLOW,
            "agrees for its target on the cosine schedule, does not for its schedule with uniform timesteps",
        ),
        (STABLE, "agrees: after this training epsilon's images are swollen, with errors from the highest noise"),
    ),
    "flowers_targets": (
        (
            MANIFOLD,
            "agrees: after this training only x0 draws anything that could be a flower",
        ),
    ),
    "guidance": (
        (
            "Guidance trades variety for clear images; the Fréchet distance is best at a small weight: Ho, Salimans"
            " 2022 ([arXiv:2207.12598](https://arxiv.org/abs/2207.12598), section 4)",
            "agrees that images become clearer; after a short training weight 3 is better than 1.5, and recall is open",
        ),
    ),
    "flowers_rectified": (
        (
            FLOW,
            "agrees for its schedule with x0 and uniform timesteps, where MNIST with v did not",
        ),
    ),
    "flowers_schedule": ((EARLY, "agrees for 32 pixels in the classifier's features; random filters decide nothing"),),
    "averages": (
        (
            "How long the average is matters much, and which length is best differs from network to network: Karras et"
            " al. 2023 ([arXiv:2312.02696](https://arxiv.org/abs/2312.02696), section 3)",
            "agrees that too long an average is worse; below a tenth of the training the length hardly matters",
        ),
    ),
    "samplers": (
        (
            "With 10 steps DDIM is far better than ancestral sampling: Song et al. 2020"
            " ([arXiv:2010.02502](https://arxiv.org/abs/2010.02502), table 1)",
            "does not agree, for models of a short training",
        ),
        (
            "Solvers of higher order need fewer evaluations than DDIM: Lu et al. 2022"
            " ([arXiv:2211.01095](https://arxiv.org/abs/2211.01095)), Zhao et al. 2023"
            " ([arXiv:2302.04867](https://arxiv.org/abs/2302.04867)), Karras et al. 2022"
            " ([arXiv:2206.00364](https://arxiv.org/abs/2206.00364), section 3)",
            "agrees for all three",
        ),
    ),
    "losses": (
        (
            "Min-SNR's weighting makes training converge faster: Hang et al. 2023"
            " ([arXiv:2303.09556](https://arxiv.org/abs/2303.09556))",
            "agrees at one budget, by the samples; the likelihood is worse",
        ),
        (
            "P2's weighting improves samples: Choi et al. 2022 ([arXiv:2204.00227](https://arxiv.org/abs/2204.00227))",
            "agrees; the likelihood is worse",
        ),
    ),
    "optimizers": (
        (
            "Muon needs about half of AdamW's compute for the same loss, in language models: Liu et al. 2025"
            " ([arXiv:2502.16982](https://arxiv.org/abs/2502.16982))",
            "fits: after as many images, samples and likelihood are better",
        ),
        (
            "An average of the weights can replace the decay of the learning rate: Defazio et al. 2024"
            " ([arXiv:2405.15682](https://arxiv.org/abs/2405.15682))",
            "agrees, at a learning rate of its own",
        ),
    ),
    "timesteps": (
        (
            "Timesteps from the middle of the chain are the hard ones; drawn more often, by a logit-normal density,"
            " they make rectified flow better: Esser et al. 2024 ([arXiv:2403.03206](https://arxiv.org/abs/2403.03206),"
            " section 3.1)",
            "agrees for v on the cosine schedule, by the samples; the likelihood is worse",
        ),
        (
            "Drawing timesteps by their losses makes the likelihood better if it is the loss, and does not help with"
            " the less noisy hybrid loss: Nichol, Dhariwal 2021 ([arXiv:2102.09672](https://arxiv.org/abs/2102.09672),"
            " section 3.3)",
            "with the simple loss of v it helps the likelihood, by 2.5%; open for the samples",
        ),
    ),
    "small_data_50": (
        (
            FEW,
            "agrees: without it 40% of the drawn digits are copies, and the likelihood is worse",
        ),
    ),
    "small_data_200": (
        (FEW, "does not agree: a training of minutes does not copy 200 digits, and only gets a harder task"),
    ),
    "small_data_1000": (
        (
            "Augmentation that the network is shown improves FID on CIFAR-10, of 50,000 images: Karras et al. 2022"
            " ([arXiv:2206.00364](https://arxiv.org/abs/2206.00364), table 2, config F)",
            "does not agree, after a training that is short for it",
        ),
    ),
}
LIMITS = {
    "classes": "One target, x0, and a training so short that the classifier recognises few of the kinds asked for.",
    "flowers_rectified": "One target, x0, 25 steps uniform in t; close to its limit of p, and the two extractors do not"
    " agree.",
    "guidance": "One target, x0, a short training, two weights; the classifier that scores knows the same classes.",
    "mnist_targets": "One network, one learning rate, 48,000 images, too few for epsilon.",
    "optimizers": "All three were best at the largest learning rate that was tried. Equal images, not equal time.",
    "timesteps": "One target, v, one loss, one learning rate and one budget. Two of three variants are undecided at"
    " 8 seeds.",
    "losses": "One target, v, one learning rate and one budget.",
    "averages": "One length of training, short, at a constant rate. Lengths are compared after the training, not"
    " during it.",
    "samplers": "At most 10 evaluations, uniform spacing, models of a short training.",
    "flowers_targets": "One width, one learning rate, 48,000 images: no target but x0 draws clean images by then, and"
    " more of either may help the others.",
    "flowers_schedule": "One target, x0, and one learning rate. The two extractors do not agree.",
    "mnist": "One network, one learning rate, 48,000 images. Precision and recall were not measured.",
    "schedule": "It has one network, one learning rate, one target (v) and one sampler.",
    "parameterization": "All three targets have the same learning rate. x0 is better only by its samples: as a"
    " likelihood model it is useless.",
    "targets": "Four of five targets were best at the largest learning rate that was tried. The study stops at"
    " 64,000 images, where more training still pays.",
    "small_data_50": "The model without augmentation copies its images, so only the likelihood is judged.",
    "small_data_200": "The training is too short to copy 200 digits. A longer one may turn the verdict around.",
    "small_data_1000": "One length of training, and one probability of augmentation (0.3).",
    "edm": "The range of noise levels changes together with the preconditioning, and the learning rate is the same"
    " throughout.",
}
