"""The published networks have exactly the published numbers of parameters."""

from __future__ import annotations

import pytest

from sectum import zoo

# "num_params" in the metadata of torchvision's weights, https://docs.pytorch.org/vision/stable/models.html
TORCHVISION = {
    "alexnet": 61_100_840,
    "convnext_tiny": 28_589_128,
    "densenet121": 7_978_856,
    "densenet161": 28_681_000,
    "densenet169": 14_149_480,
    "densenet201": 20_013_928,
    "efficientnet_b0": 5_288_548,
    "efficientnet_b1": 7_794_184,
    "efficientnet_b2": 9_109_994,
    "efficientnet_b3": 12_233_232,
    "efficientnet_b4": 19_341_616,
    "googlenet": 6_624_904,
    "mnasnet0_5": 2_218_512,
    "mnasnet0_75": 3_170_208,
    "mnasnet1_0": 4_383_312,
    "mnasnet1_3": 6_282_256,
    "mobilenet_v2": 3_504_872,
    "mobilenet_v3_large": 5_483_032,
    "mobilenet_v3_small": 2_542_856,
    "regnet_x_400mf": 5_495_976,
    "regnet_y_400mf": 4_344_144,
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "shufflenet_v2_x0_5": 1_366_792,
    "shufflenet_v2_x1_0": 2_278_604,
    "shufflenet_v2_x1_5": 3_503_624,
    "shufflenet_v2_x2_0": 7_393_996,
    "squeezenet1_0": 1_248_424,
    "squeezenet1_1": 1_235_496,
    "vgg11": 132_863_336,
    "vgg11_bn": 132_868_840,
    "vgg13": 133_047_848,
    "vgg13_bn": 133_053_736,
    "vgg16": 138_357_544,
    "vgg16_bn": 138_365_992,
    "vgg19": 143_667_240,
    "vgg19_bn": 143_678_248,
}

OTHERS = {
    # torchvision documents 27,161,264 with the auxiliary head, which inference does not run. The head is a
    # convolution 768-128 (98,304 + 256 of its normalisation), one 128-768 of 5x5 (2,457,600 + 1,536) and a
    # fully connected layer (769,000).
    "inception_v3": 27_161_264 - (98_304 + 256 + 2_457_600 + 1_536 + 769_000),
    # "Trainable params" of keras.applications.MobileNet(alpha=1), https://keras.io/api/applications/mobilenet
    "mobilenet_v1": 4_231_976,
    # The count that pytorchcv's own test asserts, https://github.com/osmr/imgclsmob (proxylessnas_mobile)
    "proxylessnas_mobile": 4_080_512,
    # The same project's test of its shufflenet_g1_w1 to shufflenet_g8_w1.
    "shufflenet_v1_g1": 1_531_936,
    "shufflenet_v1_g2": 1_733_848,
    "shufflenet_v1_g3": 1_865_728,
    "shufflenet_v1_g4": 1_968_344,
    "shufflenet_v1_g8": 2_434_768,
    # Layer by layer from Krizhevsky 2012 without groups; BTW 2023 measures its weights as 249.5 MB.
    "alexnet_ungrouped": sum(
        (
            96 * (3 * 11 * 11 + 1),
            256 * (96 * 5 * 5 + 1),
            384 * (256 * 3 * 3 + 1),
            384 * (384 * 3 * 3 + 1),
            256 * (384 * 3 * 3 + 1),
            4096 * (9216 + 1),
            4096 * (4096 + 1),
            1000 * (4096 + 1),
        )
    ),
}


@pytest.mark.parametrize("name", sorted(TORCHVISION | OTHERS))
def test_a_published_network_has_the_published_parameters(name: str) -> None:
    """Every network has exactly the number of parameters that its publisher documents."""
    assert zoo.network(name).parameters == (TORCHVISION | OTHERS)[name]


def test_every_network_of_the_catalogue_has_a_number_to_be_checked_against() -> None:
    """No network of the zoo is without a documented number of parameters."""
    assert set(zoo.names()) == set(TORCHVISION | OTHERS)


def test_the_ungrouped_alexnet_weighs_what_was_measured_in_enclaves() -> None:
    """AlexNet without groups has 249.5 MB of weights, as published for enclaves."""
    assert round(zoo.network("alexnet_ungrouped").parameters * 4 / 1e6, 1) == 249.5
