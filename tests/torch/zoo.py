"""The models of make_zoo.py: torchvision, timm, Transformers from small configurations, and small models of torch.nn.

ZOO maps a name to a function that makes the model and the tensors it is called with. A name is made once; what a model
returns is tensors, tuples and dicts of them.
"""
import torch
from torch import nn

ZOO = {}


def model(name):
    def keep(make):
        ZOO[name] = make
        return make

    return keep


def image(size=64, n=1):
    return (torch.randn(n, 3, size, size),)


def vision(name, size=64, **kw):
    def make():
        import torchvision

        return getattr(torchvision.models, name)(weights=None, **kw), image(size)

    ZOO[name] = make


for _n in ["resnet18", "mobilenet_v3_small", "efficientnet_b0", "convnext_tiny", "densenet121", "shufflenet_v2_x0_5",
           "squeezenet1_1", "regnet_y_400mf", "swin_t"]:
    vision(_n)
vision("vit_b_16", 64, image_size=64)
for _n in ["vgg11_bn", "mobilenet_v2", "mnasnet0_5", "resnext50_32x4d", "efficientnet_v2_s", "swin_v2_t"]:
    vision(_n)
vision("googlenet", 64, init_weights=False)
vision("inception_v3", 96, init_weights=False)


@model("r3d_18")
def _video():
    import torchvision.models.video as v

    return v.r3d_18(weights=None), (torch.randn(1, 3, 4, 32, 32),)


class First(nn.Module):
    """A segmentation model's main output."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x)["out"]


@model("fcn_resnet50")
def _fcn():
    import torchvision.models.segmentation as s

    return First(s.fcn_resnet50(weights=None, weights_backbone=None, num_classes=5)), image()


@model("deeplabv3_mobilenet")
def _deeplab():
    import torchvision.models.segmentation as s

    return First(s.deeplabv3_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=5)), image()


@model("lraspp_mobilenet")
def _lraspp():
    import torchvision.models.segmentation as s

    return First(s.lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=5)), image()


class Heads(nn.Module):
    """A detector without its data-dependent postprocessing."""

    def __init__(self, m):
        super().__init__()
        self.backbone, self.head = m.backbone, m.head

    def forward(self, x):
        out = self.head(list(self.backbone(x).values()))
        return out["bbox_regression"], out["cls_logits"]


@model("ssdlite")
def _ssd():
    import torchvision.models.detection as d

    return Heads(d.ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=5)), image(96)


@model("transformer_encoder")
def _encoder():
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
    return nn.TransformerEncoder(layer, 2), (torch.randn(2, 7, 32),)


@model("multihead_attention")
def _mha():
    class M(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.MultiheadAttention(32, 4, batch_first=True)

        def forward(self, x):
            y, w = self.a(x, x, x)
            return y, w

    return M(), (torch.randn(2, 7, 32),)


@model("lstm")
def _lstm():
    class M(nn.Module):
        def __init__(self):
            super().__init__()
            self.r = nn.LSTM(8, 12, num_layers=2, bidirectional=True, batch_first=True)
            self.o = nn.Linear(24, 5)

        def forward(self, x):
            y, (h, c) = self.r(x)
            return self.o(y), h, c

    return M(), (torch.randn(3, 6, 8),)


@model("gru")
def _gru():
    class M(nn.Module):
        def __init__(self):
            super().__init__()
            self.r = nn.GRU(8, 12, num_layers=2)
            self.o = nn.Linear(12, 5)

        def forward(self, x):
            y, h = self.r(x)
            return self.o(y), h

    return M(), (torch.randn(6, 3, 8),)


class UNet(nn.Module):
    def __init__(self):
        super().__init__()

        def block(i, o):
            return nn.Sequential(nn.Conv2d(i, o, 3, padding=1), nn.BatchNorm2d(o), nn.ReLU(inplace=True),
                                 nn.Conv2d(o, o, 3, padding=1), nn.GroupNorm(4, o), nn.SiLU())

        self.d1, self.d2, self.m = block(3, 8), block(8, 16), block(16, 32)
        self.u2, self.c2 = nn.ConvTranspose2d(32, 16, 2, stride=2), block(32, 16)
        self.u1, self.c1 = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True), block(24, 8)
        self.o = nn.Conv2d(8, 2, 1)
        self.p = nn.MaxPool2d(2)

    def forward(self, x):
        a = self.d1(x)
        b = self.d2(self.p(a))
        m = self.m(self.p(b))
        b = self.c2(torch.cat([b, self.u2(m)], 1))
        a = self.c1(torch.cat([a, self.u1(b)], 1))
        return torch.sigmoid(self.o(a))


@model("unet")
def _unet():
    return UNet(), image(32)


def timm_model(name, size, **kw):
    def make():
        import timm

        return timm.create_model(name, pretrained=False, num_classes=10, **kw), image(size)

    ZOO["timm_" + name] = make


timm_model("vit_tiny_patch16_224", 64, img_size=64)
timm_model("convnext_atto", 64)
timm_model("mobilevit_xxs", 64)
timm_model("efficientnet_lite0", 64)
timm_model("swinv2_tiny_window8_256", 64, img_size=64, window_size=2)
timm_model("swinv2_cr_tiny_224", 64, img_size=64, window_size=2)
timm_model("maxvit_rmlp_pico_rw_256", 64, img_size=64)
timm_model("fastvit_t8", 64)
timm_model("mixer_s32_224", 64, img_size=64)
timm_model("resnetv2_50", 64)
timm_model("ghostnet_050", 64)
timm_model("tf_efficientnet_b0", 64)
timm_model("mobilenetv4_conv_small", 64)


class Tensors(nn.Module):
    """A Transformers model that returns plain tensors."""

    def __init__(self, inner, pick, **kw):
        super().__init__()
        self.inner, self.pick, self.kw = inner, pick, kw

    def forward(self, x):
        return getattr(self.inner(x, return_dict=True, **self.kw), self.pick)


def ids(n=9):
    return (torch.randint(3, 90, (2, n)),)


def transformer(name, make_inner, inputs, pick="last_hidden_state", **kw):
    def make():
        return Tensors(make_inner(), pick, **kw), inputs()

    ZOO[name] = make


def _cfg(kind, **kw):
    import transformers as t

    return getattr(t, kind)(**kw)


def _hf(cls, cfg):
    import transformers as t

    return getattr(t, cls)(cfg)


SMALL = dict(vocab_size=100, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64)
transformer("bert", lambda: _hf("BertModel", _cfg("BertConfig", **SMALL)), ids)
transformer("distilbert", lambda: _hf("DistilBertModel", _cfg("DistilBertConfig", vocab_size=100, dim=32, n_layers=2,
                                                              n_heads=4, hidden_dim=64)), ids)
transformer("gpt2", lambda: _hf("GPT2Model", _cfg("GPT2Config", vocab_size=100, n_embd=32, n_layer=2, n_head=4)), ids,
            use_cache=False)
transformer("llama", lambda: _hf("LlamaModel", _cfg("LlamaConfig", num_key_value_heads=2, **SMALL)), ids, use_cache=False)
transformer("t5_encoder", lambda: _hf("T5EncoderModel", _cfg("T5Config", vocab_size=100, d_model=32, d_kv=8, d_ff=64,
                                                             num_layers=2, num_heads=4)), ids)
transformer("whisper_encoder", lambda: _hf("WhisperModel", _cfg("WhisperConfig", vocab_size=100, d_model=32,
            encoder_layers=2, decoder_layers=1, encoder_attention_heads=4, decoder_attention_heads=4,
            encoder_ffn_dim=64, decoder_ffn_dim=64, num_mel_bins=8, max_source_positions=20, pad_token_id=0,
            bos_token_id=1, eos_token_id=2, decoder_start_token_id=1)).encoder, lambda: (torch.randn(1, 8, 40),))
transformer("clip_vision", lambda: _hf("CLIPVisionModel", _cfg("CLIPVisionConfig", hidden_size=32, intermediate_size=64,
            num_hidden_layers=2, num_attention_heads=4, image_size=32, patch_size=8)), lambda: image(32))
transformer("wav2vec2", lambda: _hf("Wav2Vec2Model", _cfg("Wav2Vec2Config", conv_dim=(16, 16), conv_stride=(5, 2),
            conv_kernel=(10, 3), num_feat_extract_layers=2, num_conv_pos_embeddings=16,
            num_conv_pos_embedding_groups=4, **{**SMALL, "vocab_size": 32})), lambda: (torch.randn(1, 400),))
transformer("segformer", lambda: _hf("SegformerForSemanticSegmentation", _cfg("SegformerConfig", hidden_sizes=[8, 16, 16, 32],
            depths=[1, 1, 1, 1], num_attention_heads=[1, 2, 2, 4], decoder_hidden_size=16, num_labels=4)),
            lambda: image(64), pick="logits")
