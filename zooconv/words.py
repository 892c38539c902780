"""The words of the page beside a file, in every language that it speaks: a phrase a row, a language a column.

    words = Words("zh")
    words("tensors", n=180)        "180 个张量"

A further language is a column more, and a word in `Language`. What families, layouts and models say of themselves
(reasons, changes, notes) is theirs, and stays as they wrote it.
"""

from __future__ import annotations

from typing import Any, get_args

from zooconv.options import Language

LANGUAGES: tuple[Language, ...] = get_args(Language)

PHRASES: dict[str, tuple[str, str]] = {
    # labels
    "source":        ("source", "来源"),
    "source sha256": ("source sha256", "来源 SHA-256"),
    "is":            ("recognised as", "识别为"),
    "layout":        ("layout", "布局"),
    "changed":       ("changed", "变换"),
    "filled":        ("filled", "由原始文件补全"),
    "missing":       ("missing", "缺少"),
    "sha256":        ("sha256", "SHA-256 校验和"),
    "tree":          ("tree digest", "张量集摘要"),
    "canonical":     ("canonical digest", "规范摘要"),
    "checked":       ("checked", "校验"),
    "recorded":      ("recorded as", "登记为"),
    "licence":       ("licence of the weights", "权重许可证"),
    "note":          ("note", "备注"),
    "mind":          ("mind", "注意"),
    # what is said of them
    "tensors":       ("{n} tensors", "{n} 个张量"),
    "elements":      ("{n} elements", "{n} 个元素"),
    "with":          ("{what}  ({more})", "{what}（{more}）"),
    "comma":         (", ", "，"),
    "under":         ("under {key}", "位于 {key} 下"),
    "names":         ("{dialect} names", "{dialect} 命名"),
    "after prefix":  ("{dialect} names under {prefix}", "{dialect} 命名，前缀 {prefix}"),
    "no variant":    ("(no known variant)", "（未知变体）"),
    "anew":          ("{n} tensors computed anew", "{n} 个张量重新计算"),
    "unchanged":     ("nothing: every value is the source's", "无：每个数值都与来源一致"),
    "read back":     ("read back, {n} tensors as planned, every CRC-32 right",
                      "已回读，{n} 个张量与计划一致，CRC-32 全部正确"),
    "loads":         ("torch {version} loads it", "torch {version} 可以加载"),
    "not loaded":    ("not loaded with torch (--no-load-check)", "未用 torch 加载（--no-load-check）"),
    "finite":        ("all finite", "数值全部有限"),
    "nonfinite":     ("NaN or Inf in {names} (--allow-nonfinite)", "{names} 含有 NaN 或 Inf（--allow-nonfinite）"),
    "partial":       ("source read in part: its SHA-256 is as stated, not checked (--partial)",
                      "来源仅部分读取：其 SHA-256 为声明值，未经校验（--partial）"),
    # the page's sections
    "head":          ("Backbone weights for Detectron2, converted and checked by zooconv {version}.",
                      "供 Detectron2 使用的骨干网络权重，由 zooconv {version} 转换并校验。"),
    "count":         ("Tensors", "张量"),
    "in source":     ("in the source", "来源"),
    "kept":          ("kept", "保留"),
    "dropped":       ("dropped", "舍弃"),
    "fresh":         ("fresh", "新增"),
    "in file":       ("in the file", "文件中"),
    "dropped here":  ("Dropped", "舍弃的张量"),
    "fresh here":    ("Fresh: the source has none", "新增的张量：来源中没有"),
    "tensor":        ("tensors", "张量"),
    "reason":        ("reason", "原因"),
    "start":         ("start value", "起始值"),
    "more":          ("and {n} more, all in {file}", "另有 {n} 个，全部列于 {file}"),
    "config":        ("In the Detectron2 config", "Detectron2 配置"),
    "again":         ("Make it again", "重新生成"),
    "same bytes":    ("The same weights give the same bytes, to the last one.", "相同的权重得到逐字节相同的文件。"),
    "next":          ("Next", "下一步"),
    "verify":        ("is every byte still where it came from?", "每个字节是否仍与来源对应？"),
    "parity":        ("does it compute what its source computes?", "计算结果是否与来源模型一致？"),
    "card":          ("all of it in one page, measured", "汇总为一页实测报告"),
    "own words":     ("Reasons, changes and notes are those of the family's tables.",
                      "原因、变换与注意事项取自各模型族的规则表，保留英文原文。"),
}


class Words:
    """The phrases of one language."""

    def __init__(self, language: Language = "en") -> None:
        self.column = LANGUAGES.index(language)

    def __call__(self, key: str, /, **values: Any) -> str:
        """The phrase of that key, with its values. Raises KeyError where there is no such phrase, or no such value."""
        return PHRASES[key][self.column].format(**values)


ENGLISH = Words()
