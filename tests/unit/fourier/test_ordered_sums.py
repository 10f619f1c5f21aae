import pytest
import torch
from pretended_cuda import pretended_cuda

from halfmap.fourier.ordered_sums import add_at, sums_by_index


def numbers():
    generator = torch.Generator().manual_seed(0)
    index = torch.randint(7, (1000,), generator=generator)
    return index, torch.randn(1000, generator=generator, dtype=torch.float64)


def test_a_device_gives_the_sums_of_the_cpu():
    index, values = numbers()
    expected = [values[index == i].sum() for i in range(9)]
    torch.testing.assert_close(sums_by_index(index, values, 9), torch.stack(expected))
    with pretended_cuda():
        there = sums_by_index(index.to("cuda"), values.to("cuda"), 9)
        assert there.device.type == "cuda"
        into = torch.ones(9, dtype=torch.complex128, device="cuda")
        add_at(into, index.to("cuda"), 1j * values.to("cuda"))
    torch.testing.assert_close(there.cpu(), torch.stack(expected))
    torch.testing.assert_close(into.cpu(), 1 + 1j * torch.stack(expected))


def test_the_pretended_device_has_the_manners_of_one():
    index, values = numbers()
    with pretended_cuda():
        there = values.to("cuda")
        with pytest.raises(RuntimeError, match="same device"):
            there + values
        with pytest.raises(RuntimeError, match="same device"):
            there[index] = values
        with pytest.raises(RuntimeError, match="indices should be"):
            values[index.to("cuda")]
        with pytest.raises(TypeError, match="numpy"):
            there.numpy()
        with pytest.raises(RuntimeError, match="does not repeat its bits"):
            torch.bincount(index.to("cuda"), there)
        with pytest.raises(RuntimeError, match="does not repeat its bits"):
            torch.zeros(9, device="cuda").index_add_(0, index.to("cuda"), there.float())
        with pytest.raises(RuntimeError, match="generator"):
            torch.randn(3, generator=torch.Generator(), device="cuda")
        assert (there[0] * values[0] + there[index]).device.type == "cuda"
