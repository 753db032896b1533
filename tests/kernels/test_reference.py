"""The references, against published vectors, central differences and PyTorch."""

from __future__ import annotations

import numpy as np
import pytest

from helpers import reference

pytestmark = pytest.mark.host_only("tests what kernels are compared with")

RNG = np.random.default_rng(20120904)


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [  # Random123's kat_vectors
        ([0] * 4, [0] * 2, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
)
def test_philox_known_answers(counter, key, words):
    words = [int(word, 16) for word in words.split()]
    assert reference.philox4x32(np.array(counter), np.array(key)).tolist() == words


def test_float32_sums_are_taken_term_after_term():
    big, small = np.float32(2**24), np.float32(1)  # big + small rounds to big
    x = np.array([big, small, small, -big], np.float32)
    w = np.ones((4, 1), np.float32)
    assert reference.linear_forward(x[:, None], w, None) == 0
    assert reference.linear_forward(x[:, None].astype(float), w.astype(float), None) == 2
    assert reference.bias_backward(x[None]) == 0
    taps = reference.conv_forward(x[None, None, :, None], w.reshape(1, 1, 4, 1), None, (1, 1))
    assert taps.item() == 0


def test_maxpool_takes_the_first_maximum_and_nan():
    x = np.array([[1, 3, 3], [3, np.nan, 0], [np.nan, 2, 2]]).reshape(1, 3, 3, 1)
    y, argmax = reference.maxpool_forward(x, (2, 2), size=2, stride=2)
    np.testing.assert_array_equal(y[0, :, :, 0], [[np.nan, 3], [np.nan, 2]])
    np.testing.assert_array_equal(argmax[0, :, :, 0], [[3, 0], [0, 0]])


def test_softmax_ranks_and_totals():
    logits = np.array([[1, 5, 0, 2], [1, 5, 1, np.nan], [1, 6, 2, 3]], float)
    loss = reference.softmax_cross_entropy(logits, np.array([1, 2, -1, 0]), k=2, scale=0.5)
    assert loss.ranks.tolist() == [1, 0, -1, 3]
    assert loss.losses[2] == 0 and not loss.dlogits[:, 2].any()
    assert loss.totals[1:].tolist() == [1, 2, 3] and np.isnan(loss.totals[0])
    assert loss.losses[0] == pytest.approx(np.log(3))
    np.testing.assert_allclose(loss.dlogits[:, 0], np.array([1, -2, 1]) / 6)


def test_sgd_by_hand():
    w, v = reference.sgd(
        np.array([1.0, 2.0]),
        np.array([3.0, 4.0]),
        np.array([5.0, 6.0]),
        np.array([0, 1, 2]),
        np.array([0.5, 0.25]),
        np.array([0.125, 0.0]),
        momentum=0.5,
    )
    np.testing.assert_array_equal(v, [2.5 - 0.0625 - 1.5, 3 - 1.0])
    np.testing.assert_array_equal(w, [1 + 0.9375, 2 + 2.0])


def test_augment_by_hand():
    images = np.arange(12, dtype=np.uint8).reshape(1, 3, 4, 1)
    mean, scale = np.ones((3, 4, 1)), np.array([2.0])
    x = reference.augment(images, np.array([[1, 2, 1]]), mean, scale, (2, 3))
    np.testing.assert_array_equal(x[0, :, :, 0], [[0, 12, 10], [0, 20, 18]])
    x = reference.augment(images, np.array([[1, 2, 1]]), mean, scale, (2, 3), np.array([[3.0]]))
    np.testing.assert_array_equal(x[0, :, :, 0], [[0, 18, 16], [0, 26, 24]])


LRNS = [
    {"size": 5, "k": 2.0, "alpha": 0.3, "beta": 0.75, "groups": 1},
    {"size": 3, "k": 1.0, "alpha": 0.5, "beta": 0.6, "groups": 2},
    {"size": 9, "k": 1.5, "alpha": 0.2, "beta": 1.0, "groups": 3},
]


@pytest.mark.parametrize("how", LRNS)
def test_lrn_backward_is_the_gradient(how):
    x, dy = RNG.normal(size=(2, 6, 2, 1, 3))
    expected = reference.central_differences(
        lambda v: (dy * reference.lrn_forward(v, **how)).sum(), x, 1e-5
    )
    np.testing.assert_allclose(reference.lrn_backward(dy, x, **how), expected, atol=1e-9)


@pytest.mark.parametrize("kind", ["relu", "tanh"])
def test_activation_backward_is_the_gradient(kind):
    x = np.array([-2.0, -0.5, 0.25, 1.0, 3.0])
    dy = RNG.normal(size=x.shape)
    expected = reference.central_differences(
        lambda v: (dy * reference.activation_forward(v, kind)).sum(), x, 1e-5
    )
    actual = reference.activation_backward(dy, reference.activation_forward(x, kind), kind)
    np.testing.assert_allclose(actual, expected, atol=1e-9)


def test_softmax_gradient():
    logits, labels = RNG.normal(size=(7, 4)), np.array([0, 6, -1, 3])
    expected = reference.central_differences(
        lambda v: 0.25 * reference.softmax_cross_entropy(v, labels).totals[0], logits, 1e-5
    )
    actual = reference.softmax_cross_entropy(logits, labels, scale=0.25).dlogits
    np.testing.assert_allclose(actual, expected, atol=1e-9)


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


def nchw(torch, chwn):
    return torch.tensor(np.moveaxis(chwn, -1, 0).copy(), requires_grad=True)


def chwn(tensor):
    return np.moveaxis(tensor.detach().numpy(), 0, -1)


# (x, w, stride, pad, groups, rows and columns that ceil_mode adds)
CONVS = [
    ((3, 7, 6, 2), (3, 3, 3, 4), 1, 1, 1, 0),
    ((4, 9, 11, 3), (2, 5, 2, 6), 2, 2, 2, 0),
    ((4, 8, 5, 2), (1, 1, 1, 8), 3, 0, 4, 0),
    ((2, 5, 5, 1), (2, 3, 2, 3), 1, 4, 1, 0),
    ((3, 22, 22, 2), (3, 11, 11, 2), 4, 0, 1, 1),
]


@pytest.mark.parametrize(("x_shape", "w_shape", "stride", "pad", "groups", "over"), CONVS)
def test_convolution_agrees_with_pytorch(torch, x_shape, w_shape, stride, pad, groups, over):
    x, w, b = RNG.normal(size=x_shape), RNG.normal(size=w_shape), RNG.normal(size=w_shape[3])
    tx, tw, tb = nchw(torch, x), nchw(torch, w), torch.tensor(b, requires_grad=True)
    right = over and -(x_shape[1] + 2 * pad - w_shape[1]) % stride
    padded = torch.nn.functional.pad(tx, (pad, pad + right, pad, pad + right))
    ty = torch.nn.functional.conv2d(padded, tw, tb, stride=stride, groups=groups)
    out = tuple(ty.shape[2:])
    how = {"stride": stride, "pad": pad, "groups": groups}
    np.testing.assert_allclose(reference.conv_forward(x, w, b, out, **how), chwn(ty), atol=1e-12)
    dy = RNG.normal(size=chwn(ty).shape)
    ty.backward(nchw(torch, dy))
    dx = reference.conv_backward_data(dy, w, x_shape, **how)
    dw = reference.conv_backward_weights(x, dy, w_shape, **how)
    np.testing.assert_allclose(dx, chwn(tx.grad), atol=1e-12)
    np.testing.assert_allclose(dw, chwn(tw.grad), atol=1e-12)
    np.testing.assert_allclose(reference.bias_backward(dy), tb.grad.numpy(), atol=1e-12)


def test_linear_agrees_with_pytorch(torch):
    x, w, b = RNG.normal(size=(5, 3)), RNG.normal(size=(5, 7)), RNG.normal(size=7)
    tx, tw = (torch.tensor(v.T.copy(), requires_grad=True) for v in (x, w))
    ty = torch.nn.functional.linear(tx, tw, torch.tensor(b))
    np.testing.assert_allclose(reference.linear_forward(x, w, b), ty.detach().T, atol=1e-12)
    dy = RNG.normal(size=(7, 3))
    ty.backward(torch.tensor(dy.T))
    np.testing.assert_allclose(reference.linear_backward_data(dy, w), tx.grad.T, atol=1e-12)
    np.testing.assert_allclose(reference.linear_backward_weights(x, dy), tw.grad.T, atol=1e-12)


@pytest.mark.parametrize("how", LRNS)
def test_lrn_agrees_with_pytorch(torch, how):
    x, dy = RNG.normal(size=(2, 6, 3, 2, 4))
    groups, size = how["groups"], how["size"]
    tx = nchw(torch, x)
    maps = torch.cat(
        [  # PyTorch divides alpha by the size
            torch.nn.functional.local_response_norm(
                part, size, alpha=how["alpha"] * size, beta=how["beta"], k=how["k"]
            )
            for part in tx.chunk(groups, dim=1)
        ],
        dim=1,
    )
    maps.backward(nchw(torch, dy))
    np.testing.assert_allclose(reference.lrn_forward(x, **how), chwn(maps), atol=1e-12)
    np.testing.assert_allclose(reference.lrn_backward(dy, x, **how), chwn(tx.grad), atol=1e-12)


@pytest.mark.parametrize(
    ("size", "stride", "pad", "ceil"), [(3, 2, 0, True), (2, 2, 0, False), (3, 2, 1, True)]
)
def test_max_pooling_agrees_with_pytorch(torch, size, stride, pad, ceil):
    x = RNG.normal(size=(3, 8, 11, 2))
    tx = nchw(torch, x)
    ty, places = torch.nn.functional.max_pool2d(
        tx, size, stride, pad, ceil_mode=ceil, return_indices=True
    )
    y, argmax = reference.maxpool_forward(x, tuple(ty.shape[2:]), size, stride, pad)
    np.testing.assert_array_equal(y, chwn(ty))
    _, p, q, _ = np.indices(y.shape)
    r, s = np.divmod(argmax.astype(int), size)
    flat = (p * stride - pad + r) * x.shape[2] + q * stride - pad + s
    np.testing.assert_array_equal(flat, chwn(places))
    dy = RNG.normal(size=y.shape)
    ty.backward(nchw(torch, dy))
    dx = reference.maxpool_backward(dy, argmax, x.shape, size, stride, pad)
    np.testing.assert_allclose(dx, chwn(tx.grad), atol=1e-12)


def test_loss_agrees_with_pytorch(torch):
    logits, labels = 5 * RNG.normal(size=(9, 6)), np.array([0, 8, 3, -1, 2, 2])
    tl = nchw(torch, logits)
    losses = torch.nn.functional.cross_entropy(
        tl, torch.tensor(labels), ignore_index=-1, reduction="none"
    )
    (losses.sum() / 5).backward()
    loss = reference.softmax_cross_entropy(logits, labels, k=3, scale=1 / 5)
    np.testing.assert_allclose(loss.losses, losses.detach(), atol=1e-12)
    np.testing.assert_allclose(loss.dlogits, chwn(tl.grad), atol=1e-12)
    np.testing.assert_allclose(loss.probabilities, chwn(tl.softmax(dim=1)), atol=1e-12)
    in_top = [
        label in column.argsort()[-3:] for label, column in zip(labels, logits.T, strict=True)
    ]
    np.testing.assert_array_equal((loss.ranks < 3)[labels >= 0], np.array(in_top)[labels >= 0])


def test_sgd_agrees_with_pytorch_at_a_constant_rate(torch):
    w, rate, decay = RNG.normal(size=5), 0.1, 0.01
    tw = torch.tensor(w, requires_grad=True)
    optimizer = torch.optim.SGD([tw], lr=rate, momentum=0.9, weight_decay=decay)
    v = np.zeros(5)
    for _ in range(3):
        g = RNG.normal(size=5)
        tw.grad = torch.tensor(g)
        optimizer.step()
        w, v = reference.sgd(
            w, g, v, np.array([0, 5]), np.array([rate]), np.array([decay]), momentum=0.9
        )
    np.testing.assert_allclose(w, tw.detach(), atol=1e-12)
